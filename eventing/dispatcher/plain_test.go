package dispatcher

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// raw is a server at http://host that speaks by hand: it gets each connection with the number of it.
func (w *world) raw(host string, handle func(n int, c net.Conn, r *bufio.Reader)) {
	conns := make(chan net.Conn)
	w.mu.Lock()
	w.hosts[host+":80"] = conns
	w.mu.Unlock()
	closed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case c := <-conns:
				wg.Go(func() {
					defer c.Close()
					handle(n, c, bufio.NewReader(c))
				})
			case <-closed:
				return
			}
		}
	})
	w.stop = append(w.stop, func() { close(closed); wg.Wait() })
}

func read(r *bufio.Reader) (id string, ok bool) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return "", false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req.Header.Get("Ce-Id"), err == nil
}

func TestConnectionsAreKeptAndReplaced(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for _, tc := range []struct {
		name   string
		answer string
		after  func(c net.Conn) // what the server does after an answer
		conns  int              // for 5 events
	}{
		{"kept", ok, nil, 1},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", nil, 1},
		{"interim answers", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok, nil, 1},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", nil, 1},
		{"closed, and said so", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", func(c net.Conn) { _ = c.Close() }, 5},
		{"closed without a word", ok, func(c net.Conn) { _ = c.Close() }, 5},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nbody", func(c net.Conn) { _ = c.Close() }, 5},
		{"a body without an end that matters", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000), func(c net.Conn) { _ = c.Close() }, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				var mu sync.Mutex
				conns, got := 0, []string{}
				w.raw("a", func(_ int, c net.Conn, r *bufio.Reader) {
					mu.Lock()
					conns++
					mu.Unlock()
					for {
						id, come := read(r)
						if !come {
							return
						}
						mu.Lock()
						got = append(got, id)
						mu.Unlock()
						_, _ = io.WriteString(c, tc.answer)
						if tc.after != nil {
							tc.after(c)
							return
						}
					}
				})
				w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Parallelism = 1 }))
				for i := range 5 {
					w.publish(numbered(i))
					w.sleep(time.Second)
				}
				mu.Lock()
				defer mu.Unlock()
				if fmt.Sprint(got) != "[0 1 2 3 4]" || conns != tc.conns {
					t.Errorf("got %v by %d connections, want %d", got, conns, tc.conns)
				}
				if n := len(w.dead()); n != 0 {
					t.Errorf("%d dead letters", n)
				}
			})
		})
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inBubble(t, func(w *world) {
		closed := make(chan struct{})
		w.raw("a", func(_ int, c net.Conn, r *bufio.Reader) {
			defer close(closed)
			for {
				if _, come := read(r); !come {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
			}
		})
		w.dispatcher().Set(w.trigger("t1", "a"))
		w.publish(numbered(1))
		w.sleep(idleTimeout - time.Second)
		select {
		case <-closed:
			t.Error("closed early")
		default:
		}
		w.sleep(time.Minute)
		select {
		case <-closed:
		default:
			t.Error("still open")
		}
	})
}

func TestAnAnswerThatIsNone(t *testing.T) {
	for _, answer := range []string{"what?\r\n\r\n", "HTTP/1.1 999999 no\r\n\r\n", "HTTP/1.1 200 OK\r\nno header\r\n\r\n", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), "HTTP/1.1 101 Switching Protocols\r\n\r\n"} {
		inBubble(t, func(w *world) {
			w.raw("a", func(_ int, c net.Conn, r *bufio.Reader) {
				if _, come := read(r); come {
					_, _ = io.WriteString(c, answer)
				}
			})
			w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Delivery.Retry = 1 }))
			w.publish(numbered(1))
			w.sleep(time.Hour)
			if n := len(w.dead()); n != 1 {
				t.Errorf("%q: %d dead letters, want 1", answer, n)
			}
		})
	}
}

// TestBothWaysSendTheSame compares what a server gets by plain and by Go's client.
func TestBothWaysSendTheSame(t *testing.T) {
	type request struct {
		event *event.Event
		host  string
		uri   string
		other string
	}
	got := make(chan request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		events, err := event.FromHTTP(r.Header, body, event.DefaultLimits)
		q := request{host: r.Host, uri: r.RequestURI, other: fmt.Sprint(err)}
		if err == nil {
			q.event = events[0]
		}
		for _, name := range []string{"User-Agent", "Prefer", "Traceparent", "Authorization", "Accept-Encoding", "Idempotency-Key"} {
			q.other += fmt.Sprintf(" %s=%q", name, r.Header[name])
		}
		q.other += fmt.Sprint(" ", r.ContentLength, r.TransferEncoding)
		got <- q
	}))
	defer server.Close()
	d := New(Options{})
	defer d.Drain(t.Context())
	paths := []string{"", "/", "/a/b?c=d&e", "/%20x", "?q"}
	text := rapid.StringMatching(`[ -~äöü€"%]{1,20}`)
	rapid.Check(t, func(r *rapid.T) {
		url := server.URL
		if rapid.Bool().Draw(r, "user") {
			url = "http://user:pass@" + strings.TrimPrefix(url, "http://")
		}
		ep, err := d.clients.endpoint(plan.Target{URL: url + rapid.SampledFrom(paths).Draw(r, "path")})
		if err != nil {
			r.Fatal(err)
		}
		defer d.clients.release(ep)
		e := &event.Event{ID: text.Draw(r, "id"), Source: "/" + fmt.Sprint(rapid.IntRange(0, 9).Draw(r, "source")), Type: text.Draw(r, "type"), Data: rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(r, "data")}
		if rapid.Bool().Draw(r, "more") {
			e.Subject, e.DataContentType, e.Time = text.Draw(r, "subject"), "text/plain; charset=utf-8", "2026-01-02T03:04:05Z"
			e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			e.SetExtension("x1", text.Draw(r, "x"))
		}
		wants := rapid.Bool().Draw(r, "reply")
		a := d.send(t.Context(), plan.Reference{}, ep, e, time.Minute, wants)
		one := <-got
		ep.plain = nil
		b := d.send(t.Context(), plan.Reference{}, ep, e, time.Minute, wants)
		other := <-got
		if a.Status != 200 || b.Status != 200 || a.err != nil || b.err != nil {
			r.Fatalf("%+v, %+v", a, b)
		}
		if x, y := fmt.Sprintf("%+v %s %s %s", one.event, one.host, one.uri, one.other), fmt.Sprintf("%+v %s %s %s", other.event, other.host, other.uri, other.other); x != y {
			r.Fatalf("plain:     %s\nGo's client: %s", x, y)
		}
	})
}

func TestWhatPlainDoesNotSend(t *testing.T) {
	p := &plain{}
	large := numbered(1)
	large.Data = make([]byte, plainMost+1)
	header := numbered(1)
	header.DataContentType = "text/plain\r\nX: y"
	name := numbered(1)
	name.Extensions = []event.Attribute{{Name: "x\r\ny", Value: "z"}}
	for what, e := range map[string]*event.Event{"large data": large, "a content type with a line end": header, "an extension with a line end": name} {
		if p.fits(e) {
			t.Errorf("%s goes plain", what)
		}
	}
	if !p.fits(numbered(1)) {
		t.Error("an ordinary event does not go plain")
	}
}

func TestLargeEventsAreSent(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{}
		w.serve("a", s.serve)
		w.dispatcher().Set(w.trigger("t1", "a"))
		e := numbered(1)
		e.Data = []byte(strings.Repeat("0123456789abcdef", 60<<10)) // 960 KiB
		w.publish(e)
		w.sleep(time.Second)
		if s.count() != 1 || string(s.events[0].Data) != string(e.Data) {
			t.Errorf("%d came", s.count())
		}
	})
}
