package faults

import (
	"context"

	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// get calls a service through the gateway; any answer but 200 is an error with its body's begin.
func (w *world) get(ctx context.Context, service, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL(service, path), nil)
	if err != nil {
		return "", err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("body: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return string(body), nil
}

// traffic is requests going on until stop.
type traffic struct {
	name   string
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	begun  time.Time
	count  int
	failed map[string]int // by what the client saw
	first  time.Time      // failure
	last   time.Time      // failure
	took   []time.Duration
	seen   map[string]int // by the first word of the answer: the revision
}

func newTraffic(t *testing.T, name string) (*traffic, context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	tr := &traffic{name: name, begun: time.Now(), cancel: cancel, failed: map[string]int{}, seen: map[string]int{}}
	t.Cleanup(func() { cancel(); tr.wg.Wait() })
	return tr, ctx
}

// rate starts n requests a second, but has 300 in flight at most: a machine that is too busy gets fewer, which the log shows.
func (w *world) rate(t *testing.T, service, path string, n int) *traffic {
	tr, stopped := newTraffic(t, fmt.Sprintf("%s%s at %d/s", service, path, n))
	slots := make(chan struct{}, 300)
	tr.wg.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		began, sent := time.Now(), 0
		for {
			select {
			case <-stopped.Done():
				return
			case now := <-ticker.C:
				for due := int(now.Sub(began).Seconds() * float64(n)); sent < due; sent++ {
					select {
					case slots <- struct{}{}:
						tr.wg.Go(func() { defer func() { <-slots }(); tr.one(w, service, path) })
					default:
					}
				}
			}
		}
	})
	return tr
}

// loop keeps n requests in flight.
func (w *world) loop(t *testing.T, service, path string, n int) *traffic {
	tr, stopped := newTraffic(t, fmt.Sprintf("%s%s, %d at a time", service, path, n))
	for range n {
		tr.wg.Go(func() {
			for stopped.Err() == nil {
				tr.one(w, service, path)
			}
		})
	}
	return tr
}

func (tr *traffic) one(w *world, service, path string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	body, err := w.get(ctx, service, path)
	tr.note(began, body, err)
}

func (tr *traffic) note(began time.Time, body string, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.count++
	tr.took = append(tr.took, time.Since(began))
	if err != nil {
		if tr.last = time.Now(); tr.first.IsZero() {
			tr.first = tr.last
		}
		tr.failed[err.Error()]++
		return
	}
	word, _, _ := strings.Cut(body, " ")
	tr.seen[word]++
}

// answers returns how many there were and by which revision.
func (tr *traffic) answers() (int, map[string]int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.count, maps.Clone(tr.seen)
}

// stop ends it when every request has its answer, logs the figures and returns the number of failures.
func (tr *traffic) stop(t *testing.T) int {
	t.Helper()
	tr.cancel()
	tr.wg.Wait()
	lost := 0
	for _, n := range tr.failed {
		lost += n
	}
	slices.Sort(tr.took)
	if len(tr.took) > 0 {
		t.Logf("%s: %d requests (%.0f/s), %d failed; p50 %v, p99 %v, longest %v", tr.name, tr.count, float64(tr.count)/time.Since(tr.begun).Seconds(), lost,
			tr.took[len(tr.took)/2].Round(time.Microsecond*100), tr.took[len(tr.took)*99/100].Round(time.Microsecond*100), tr.took[len(tr.took)-1].Round(time.Microsecond*100))
	}
	for i, text := range slices.Sorted(maps.Keys(tr.failed)) {
		if i < 8 {
			t.Logf("  %d x %s", tr.failed[text], text)
		}
	}
	if lost > 0 {
		t.Logf("  from %s to %s", tr.first.Format("15:04:05.000"), tr.last.Format("15:04:05.000"))
	}
	return lost
}

// stopClean is stop where nothing may fail.
func (tr *traffic) stopClean(t *testing.T) {
	t.Helper()
	if lost := tr.stop(t); lost > 0 {
		t.Errorf("%s: %d of %d requests failed", tr.name, lost, tr.count)
	}
}

// hold is one request in progress.
type hold struct {
	what string
	done chan error
}

// long begins requests that take d.
func (w *world) long(service string, d time.Duration, n int) []*hold {
	var out []*hold
	for range n {
		h := &hold{what: fmt.Sprintf("request of %s to %s", d, service), done: make(chan error, 1)}
		go func() {
			_, err := w.get(context.Background(), service, fmt.Sprintf("/sleep?ms=%d", d.Milliseconds()))
			h.done <- err
		}()
		out = append(out, h)
	}
	return out
}

// websockets opens n that send a message every 250 ms and want it back, until d has passed.
func (w *world) websockets(t *testing.T, service string, d time.Duration, n int) []*hold {
	t.Helper()
	ended := make(chan struct{})
	time.AfterFunc(d, func() { close(ended) })
	return w.websocketsUntil(t, service, ended, n)
}

// websocketsUntil is websockets that end when the channel is closed.
func (w *world) websocketsUntil(t *testing.T, service string, ended <-chan struct{}, n int) []*hold {
	t.Helper()
	var out []*hold
	for range n {
		h := &hold{what: "websocket to " + service, done: make(chan error, 1)}
		ctx, cancel := context.WithTimeout(context.Background(), platformPatience)
		t.Cleanup(cancel)
		conn, _, err := websocket.Dial(ctx, strings.Replace(w.URL(service, "/ws"), "http", "ws", 1), &websocket.DialOptions{HTTPClient: w.http})
		if err != nil {
			t.Fatalf("%s: %v", h.what, err)
		}
		go func() { h.done <- converse(conn, ended) }()
		out = append(out, h)
	}
	return out
}

const platformPatience = 3 * time.Minute

func converse(conn *websocket.Conn, ended <-chan struct{}) error {
	defer func() { _ = conn.CloseNow() }()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*platformPatience)
	defer cancel()
	for {
		if err := conn.Write(ctx, websocket.MessageText, []byte("still there?")); err != nil {
			return fmt.Errorf("after %s: %w", time.Since(began).Round(time.Millisecond), err)
		}
		_, got, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("after %s: %w", time.Since(began).Round(time.Millisecond), err)
		}
		if string(got) != "still there?" {
			return fmt.Errorf("got %q back", got)
		}
		select {
		case <-ended:
			return conn.Close(websocket.StatusNormalClosure, "")
		case <-ticker.C:
		}
	}
}

// finished waits for requests and fails the test for each that failed.
func finished(t *testing.T, holds []*hold) {
	t.Helper()
	lost := 0
	for _, h := range holds {
		if err := <-h.done; err != nil {
			lost++
			t.Errorf("%s: %v", h.what, err)
		}
	}
	if len(holds) > 0 {
		t.Logf("%d x %s: %d failed", len(holds), holds[0].what, lost)
	}
}
