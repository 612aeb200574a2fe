package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

func TestAnEventIsDeliveredAsItIs(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{}
		w.serve("a", s.serve)
		d := w.dispatcher()
		d.Set(w.trigger("t1", "a"))
		e := numbered(1)
		e.Subject = "Euro € and \"space\" 100%"
		e.Time = "2026-01-02T03:04:05.6Z"
		e.SetExtension("tenant", "a b")
		e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		e.SetExtension("tracestate", "x=y")
		w.publish(e)
		synctest.Wait()
		if got := s.got(); !slices.Equal(got, []string{"1"}) {
			t.Fatalf("got %v", got)
		}
		if got, want := fmt.Sprintf("%+v", *s.events[0]), fmt.Sprintf("%+v", *e); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		h := s.header[0]
		for name, want := range map[string]string{"Prefer": "reply", "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "x=y", "Content-Type": "text/plain", "Idempotency-Key": ""} {
			if got := h.Get(name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		if b := w.backlog("t1"); b != (engine.Backlog{}) {
			t.Errorf("left: %+v", b)
		}
	})
}

// TestWhatBecomesOfAnEvent has one subscriber that gives the answers one after the other, and says when the attempts were, and where the event is.
func TestWhatBecomesOfAnEvent(t *testing.T) {
	replied := func(status int) func(http.ResponseWriter, *event.Event) {
		return func(w http.ResponseWriter, e *event.Event) {
			if e.Type == "reply" {
				return
			}
			r := &event.Event{ID: "r" + e.ID, Source: "/reply", Type: "reply", Data: []byte("thanks")}
			r.ToHTTP(w.Header())
			w.WriteHeader(status)
			_, _ = w.Write(r.Data)
		}
	}
	raw := func(contentType, body string) func(http.ResponseWriter, *event.Event) {
		return func(w http.ResponseWriter, e *event.Event) {
			if e.Type == "reply" {
				return
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = fmt.Fprint(w, body)
		}
	}
	ends := func(int, *event.Event) int { panic(http.ErrAbortHandler) }
	always := func(status int) func(int, *event.Event) int { return func(int, *event.Event) int { return status } }
	for _, tc := range []struct {
		name   string
		answer func(n int, e *event.Event) int
		write  func(http.ResponseWriter, *event.Event)
		takes  time.Duration
		change func(*plan.Subscription)
		got    string // what the subscriber got when
		sink   string // what the sink of dead letters got
		dead   string // dead letters that are stored
	}{
		{name: "accepted", got: "1@0s"},
		{name: "202", answer: always(202), got: "1@0s"},
		{name: "204", answer: always(204), got: "1@0s"},
		{name: "tried again", answer: func(n int, _ *event.Event) int { return []int{503, 500, 200}[n] }, got: "1@0s 1@1s 1@3s"},
		{name: "never accepted", answer: always(500), got: "1@0s 1@1s 1@3s 1@6s", dead: "1: 500 status 500"},
		{name: "refused", answer: always(400), got: "1@0s", dead: "1: 400 status 400"},
		{name: "redirected", answer: always(301), got: "1@0s", dead: "1: 301 status 301"},
		{name: "connection broken", answer: ends, got: "1@0s 1@1s 1@3s 1@6s", dead: "1: 500 dispatch error: EOF"},
		{name: "too slow", takes: 10 * time.Second, change: func(s *plan.Subscription) { s.Delivery.Timeout = 4 * time.Second }, got: "1@0s 1@5s 1@11s 1@18s", dead: "1: 500 dispatch error: context deadline exceeded"},
		{name: "no retry", answer: always(500), change: func(s *plan.Subscription) { s.Delivery.Retry = 0 }, got: "1@0s", dead: "1: 500 status 500"},
		{name: "a sink", answer: always(500), change: func(s *plan.Subscription) { s.DeadLetter.URL = "http://sink" }, got: "1@0s 1@1s 1@3s 1@6s", sink: "1@6s"},
		{name: "a sink that is not there", answer: always(400), change: func(s *plan.Subscription) { s.DeadLetter.URL = "http://nobody" }, got: "1@0s", dead: "1: 400 status 400"},
		{name: "nobody there", change: func(s *plan.Subscription) { s.Subscriber.URL = "http://nobody" }, dead: "1: 500 dispatch error: dial nobody:80: connection refused"},
		{name: "not a URL", change: func(s *plan.Subscription) { s.Subscriber.URL = "ftp://nobody" }, dead: `1: 500 dispatch error: "ftp://nobody" is not the URL of an HTTP server`},
		{name: "a reply", write: replied(200), got: "1@0s r1@0s"},
		{name: "a reply with 201", write: replied(201), got: "1@0s r1@0s"},
		{name: "no reply with 202", write: replied(202), got: "1@0s"},
		{name: "a reply in structured mode", write: raw("application/cloudevents+json", `{"specversion":"1.0","id":"r1","source":"/r","type":"reply"}`), got: "1@0s r1@0s"},
		{name: "a reply that is none", write: raw("application/cloudevents+json", `{"specversion":"1.0"}`), got: "1@0s", dead: "1: 502 the reply is not an event:"},
		{name: "a body that is no event", write: raw("application/json", `{"specversion":"1.0"}`), got: "1@0s"},
		{name: "a reply with nowhere to go", write: replied(200), change: func(s *plan.Subscription) { s.ReplyTopic = "" }, got: "1@0s"},
		{name: "a reply to a URL", write: replied(200), change: func(s *plan.Subscription) { s.ReplyTopic, s.Reply.URL = "", "http://sink" }, got: "1@0s", sink: "r1@0s"},
		{name: "a reply to a URL that is not there", write: replied(200), change: func(s *plan.Subscription) { s.ReplyTopic, s.Reply.URL = "", "http://nobody" }, got: "1@0s", dead: "1: 500 dispatch error: dial nobody"},
		{name: "a reply to a topic that is not there", write: replied(200), change: func(s *plan.Subscription) { s.ReplyTopic = "b.no.topic.0" }, got: "1@0s", dead: "1: 404 the reply is not stored:"},
		{name: "not for it", change: func(s *plan.Subscription) {
			s.Filter = []plan.Filter{{Exact: []plan.Match{{Attribute: "type", Value: "other"}}}}
		}},
		{name: "a filter that does not compile", change: func(s *plan.Subscription) { s.Filter = []plan.Filter{{CESQL: "type ="}} }},
	} {
		for _, ordered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ordered %v", tc.name, ordered), func(t *testing.T) {
				inBubble(t, func(w *world) {
					s, dls := &sink{answer: tc.answer, write: tc.write, takes: tc.takes}, &sink{}
					w.serve("a", s.serve)
					w.serve("sink", dls.serve)
					sub := w.trigger("t1", "a", func(s *plan.Subscription) {
						s.Ordered = ordered
						if tc.change != nil {
							tc.change(s)
						}
					})
					w.dispatcher().Set(sub)
					w.publish(numbered(1))
					w.sleep(time.Hour) // of the bubble
					if got := w.log(s); !fits(got, tc.got) {
						t.Errorf("the subscriber got %q, want %q", got, tc.got)
					}
					if got := w.log(dls); !fits(got, tc.sink) {
						t.Errorf("the sink got %q, want %q", got, tc.sink)
					}
					var dead []string
					for _, e := range w.dead() {
						letter := deadletter.Open(e, 1, time.Now())
						dead = append(dead, fmt.Sprintf("%s: %d %s", letter.Event.ID, letter.Failure.Code, letter.Failure.Body))
						if want := (plan.Reference{Kind: "Trigger", Namespace: "default", Name: "t1"}); letter.Owner != want || letter.Subscription != "t1" {
							t.Errorf("the dead letter is of %v, %s", letter.Owner, letter.Subscription)
						}
					}
					if got := strings.Join(dead, "; "); !strings.HasPrefix(got, tc.dead) || tc.dead == "" && got != "" {
						t.Errorf("dead letters %q, want %q", got, tc.dead)
					}
					if b := w.backlog("t1"); b != (engine.Backlog{}) {
						t.Errorf("left: %+v", b)
					}
				})
			})
		}
	}
}

func (w *world) log(s *sink) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for i, e := range s.events {
		all = append(all, fmt.Sprintf("%s@%v", e.ID, s.at[i].Sub(w.begin).Round(time.Millisecond)))
	}
	return strings.Join(all, " ")
}

// fits compares what came when: as wanted, or later by the jitter of the waits before it.
func fits(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	if len(g) != len(w) {
		return false
	}
	for i := range g {
		id, at, _ := strings.Cut(g[i], "@")
		wantID, wantAt, _ := strings.Cut(w[i], "@")
		a, _ := time.ParseDuration(at)
		b, _ := time.ParseDuration(wantAt)
		if id != wantID || a < b || float64(a) > float64(b)*(1+delivery.MaxJitter)+1e6 {
			return false
		}
	}
	return true
}

func TestASubscriberAtZeroIsWokenOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{}
		waking := make(chan struct{})
		first := true
		w.serve("a", func(rw http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			wait := first
			first = false
			s.mu.Unlock()
			if wait {
				<-waking
			}
			s.serve(rw, r)
		})
		for i := range 200 {
			w.publish(numbered(i))
		}
		sub := w.trigger("t1", "a")
		d := w.dispatcher()
		d.Set(sub)
		for i := 200; i < 400; i++ {
			w.publish(numbered(i))
		}
		w.sleep(20 * time.Second)
		l := d.lanes["t1"]
		l.mu.Lock()
		flying := l.flying
		l.mu.Unlock()
		if flying != 1 || s.count() != 0 {
			t.Errorf("%d deliveries in flight before the first answer, %d answered", flying, s.count())
		}
		s.mu.Lock()
		s.takes = 100 * time.Millisecond
		s.mu.Unlock()
		close(waking)
		w.sleep(time.Hour)
		if got := s.count(); got != 200 {
			t.Errorf("%d events, want 200", got)
		}
		// 1, 2, 4, … 64: seven rounds for the first 127, and the rest in the next ones.
		if took := s.at[199].Sub(s.at[0]); took > time.Second {
			t.Errorf("the window did not double with each round: 200 events took %v in rounds of 100 ms", took)
		}
	})
}

func TestOrderIsKeptOverRetries(t *testing.T) {
	inBubble(t, func(w *world) {
		// Each event of partition 0 fails twice, those of the others never.
		tried := map[string]int{}
		s := &sink{takes: 10 * time.Millisecond}
		s.answer = func(_ int, e *event.Event) int {
			s.mu.Lock()
			defer s.mu.Unlock()
			tried[e.ID]++
			if key, _ := e.Get("partitionkey"); key == "0" && tried[e.ID] < 3 {
				return 500
			}
			return 200
		}
		w.serve("a", s.serve)
		w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Ordered, s.Delivery.Retry = true, 5 }))
		for i := range 100 {
			e := numbered(i)
			e.SetExtension("partitionkey", fmt.Sprint(i%5))
			w.publish(e)
		}
		w.sleep(time.Hour)
		last, ended := map[string]int{}, map[string]time.Time{}
		for i, e := range s.events {
			var n int
			_, _ = fmt.Sscan(e.ID, &n)
			key, _ := e.Get("partitionkey")
			if before, there := last[key]; there && n < before {
				t.Errorf("partition %s: event %d came after %d", key, n, before)
			}
			if key != "0" {
				ended[key] = s.at[i]
			}
			last[key] = n
		}
		if len(tried) != 100 {
			t.Errorf("%d events came, want 100", len(tried))
		}
		for key, at := range ended {
			if at.Sub(w.begin) > 2*time.Second {
				t.Errorf("partition %s waited for another: %v", key, at.Sub(w.begin))
			}
		}
		if s.most > 5 {
			t.Errorf("%d deliveries at once, of 5 partitions", s.most)
		}
	})
}

func TestEventsWithoutAPartitionKey(t *testing.T) {
	s := &settings{Subscription: plan.Subscription{PartitionKey: "tenant"}}
	e := numbered(1)
	for _, step := range []struct{ name, value, want string }{{"", "", ""}, {"subject", "s", "s"}, {"tenant", "a", "a"}, {"tenant", "", ""}} {
		switch step.name {
		case "subject":
			e.Subject = step.value
		case "tenant":
			e.SetExtension("tenant", step.value)
		}
		if got := s.partition(e); got != step.want {
			t.Errorf("%+v: partition %q", step, got)
		}
	}
}

func TestASlowSubscriberDelaysNobody(t *testing.T) {
	inBubble(t, func(w *world) {
		slow, quick := &sink{takes: 59 * time.Second}, &sink{}
		w.serve("slow", slow.serve)
		w.serve("quick", quick.serve)
		d := w.dispatcher(func(o *Options) { o.MaxBytes = 8 << 20 })
		for i := range 10 {
			d.Set(w.trigger(fmt.Sprintf("slow%d", i), "slow"))
			d.Set(w.trigger(fmt.Sprintf("dead%d", i), "nobody"))
		}
		d.Set(w.trigger("quick", "quick"))
		for i := range 500 {
			e := numbered(i)
			e.Data = make([]byte, 50_000) // 25 MB in all, and for each lane
			w.publish(e)
		}
		synctest.Wait()
		if got := quick.count(); got != 500 {
			t.Errorf("the quick one has %d of 500 before any time has passed", got)
		}
		if got, most := d.budget.used.Load(), d.budget.total+21*(50_000+attemptBytes+200); got > most {
			t.Errorf("%d bytes are held, want at most %d", got, most)
		}
		w.sleep(10 * time.Minute)
		if got, most := d.budget.used.Load(), d.budget.total+21*(50_000+attemptBytes+200); got > most {
			t.Errorf("later %d bytes are held, want at most %d", got, most)
		}
	})
}

func TestALongAttemptIsNotGivenOutAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: 9 * time.Minute}
		w.serve("a", s.serve)
		w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Delivery.Timeout = 10 * time.Minute }))
		for i := range 6 { // some wait behind the first
			w.publish(numbered(i))
		}
		w.sleep(time.Hour)
		if got := s.got(); len(got) != 6 {
			t.Errorf("got %v, want each of 6 once", got)
		}
		if b := w.backlog("t1"); b != (engine.Backlog{}) {
			t.Errorf("left: %+v", b)
		}
	})
}

func TestDrainFinishesAndGivesBack(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: 10 * time.Second}
		w.serve("a", s.serve)
		sub := w.trigger("t1", "a")
		d := w.dispatcher()
		d.Set(sub)
		for i := range 6 {
			w.publish(numbered(i))
		}
		w.sleep(time.Second)
		drained := make(chan struct{})
		go func() { defer close(drained); d.Drain(context.Background()) }()
		w.sleep(time.Second)
		other := w.dispatcher()
		other.Set(sub)
		synctest.Wait()
		if got := s.got(); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("got %v, want the first from one dispatcher and the next at once from the other", got)
		}
		<-drained
		if at := w.since(); at != 10*time.Second {
			t.Errorf("drained after %v, want 10s, when the first had its answer", at)
		}
		w.sleep(time.Hour)
		if got := s.got(); len(got) != 6 {
			t.Errorf("got %v, want each of 6 once", got)
		}
	})
}

func TestWhatADrainFinishesIsNotGivenOutAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: 9 * time.Minute}
		w.serve("a", s.serve)
		sub := w.trigger("t1", "a", func(s *plan.Subscription) { s.Delivery.Timeout = 10 * time.Minute })
		d := w.dispatcher()
		d.Set(sub)
		w.publish(numbered(0))
		w.sleep(time.Second)
		w.dispatcher().Set(sub)
		d.Drain(context.Background())
		w.sleep(time.Hour)
		if got := s.got(); !slices.Equal(got, []string{"0"}) {
			t.Errorf("got %v, want it once", got)
		}
	})
}

func TestDrainBreaksOffWhatTakesTooLong(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: 50 * time.Second}
		w.serve("a", s.serve)
		sub := w.trigger("t1", "a", func(s *plan.Subscription) { s.Delivery.Retry = 0 })
		d := w.dispatcher()
		d.Set(sub)
		w.publish(numbered(0))
		w.sleep(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d.Drain(ctx)
		if at := w.since(); at != 6*time.Second {
			t.Errorf("drained after %v, want 6s", at)
		}
		d.Set(sub) // does nothing
		if b := w.backlog("t1"); b != (engine.Backlog{Waiting: 1}) || len(w.dead()) != 0 {
			t.Errorf("left: %+v, dead: %d", b, len(w.dead()))
		}
		w.dispatcher().Set(sub)
		w.sleep(time.Hour)
		if got := s.got(); !slices.Equal(got, []string{"0", "0"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestAKilledDispatcherLosesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{takes: time.Second}
		w.serve("a", s.serve)
		sub := w.trigger("t1", "a", func(s *plan.Subscription) { s.Parallelism = 4 })
		d := w.dispatcher()
		d.Set(sub)
		for i := range 50 {
			w.publish(numbered(i))
		}
		w.sleep(5500 * time.Millisecond)
		kill(d)
		w.dispatcher().Set(sub)
		w.sleep(time.Hour)
		times := map[string]int{}
		for _, id := range s.got() {
			times[id]++
		}
		if len(times) != 50 || s.count() > 54 {
			t.Errorf("%d events came, %d times in all; want 50, and at most the 4 in flight twice", len(times), s.count())
		}
	})
}

func TestALoopOfRepliesEnds(t *testing.T) {
	inBubble(t, func(w *world) {
		n := 0
		var mu sync.Mutex
		w.serve("a", func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			n++
			id := n
			mu.Unlock()
			reply(rw, &event.Event{ID: fmt.Sprint("r", id), Source: "/reply", Type: "t"})
		})
		var replied atomic.Int64
		w.dispatcher(func(o *Options) {
			o.Replied = func(to string, e *event.Event) {
				if to == topic && e.Source == "/reply" {
					replied.Add(1)
				}
			}
		}).Set(w.trigger("t1", "a"))
		e := numbered(1)
		e.SetExtension(delivery.HopLimit, "10")
		w.publish(e)
		w.sleep(time.Hour)
		if n != 10 {
			t.Errorf("%d deliveries, want 10", n)
		}
		if n := replied.Load(); n != 9 {
			t.Errorf("%d replies were told of, want 9", n)
		}
		dead := w.dead()
		if len(dead) != 1 {
			t.Fatalf("%d dead letters, want the event whose reply had no hop left", len(dead))
		}
		if f, _ := delivery.Read(dead[0]); f.Code != http.StatusLoopDetected {
			t.Errorf("dead letter: %+v", f)
		}
	})
}

func TestAFullTopicHoldsTheReplyBack(t *testing.T) {
	inBubble(t, func(w *world) {
		w.must(w.e.PutTopic(w.ctx, engine.Topic{Name: "b.default.other.0", MaxEvents: 1}))
		w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: "b.default.other.0", Name: "o", AckWait: time.Hour}))
		if _, err := w.e.Publish(w.ctx, "b.default.other.0", numbered(0)); err != nil {
			t.Fatal(err)
		}
		c, err := w.e.Consume(w.ctx, "b.default.other.0", "o")
		w.must(err)
		defer c.Close()
		s := &sink{write: func(rw http.ResponseWriter, e *event.Event) {
			reply(rw, &event.Event{ID: "r" + e.ID, Source: "/reply", Type: "reply"})
		}}
		w.serve("a", s.serve)
		w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.ReplyTopic, s.Delivery.Retry = "b.default.other.0", 100 }))
		w.publish(numbered(1))
		w.sleep(2 * time.Minute)
		if b := w.backlog("t1"); b.InFlight != 1 || s.count() != 1 {
			t.Errorf("%+v, delivered %d times; want it in flight and delivered once", b, s.count())
		}
		d, err := c.Next(w.ctx)
		w.must(err)
		w.must(d.Ack(w.ctx))
		w.sleep(time.Minute)
		if b := w.backlog("t1"); b != (engine.Backlog{}) || s.count() != 1 {
			t.Errorf("%+v, delivered %d times; want nothing left", b, s.count())
		}
		if d, err = c.Next(w.ctx); err != nil || d.Event().ID != "r1" {
			t.Errorf("the reply: %v", err)
		}
	})
}

func TestADeadSubscriberDoesNotUseUpTheBacklog(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{}
		w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) {
			s.Delivery = plan.Delivery{Retry: 10, Backoff: plan.Exponential, Delay: 200 * time.Millisecond, Timeout: time.Minute}
		}))
		for i := range 1000 {
			w.publish(numbered(i))
		}
		w.sleep(5 * time.Minute)
		if n := len(w.dead()); n > 2 {
			t.Errorf("%d dead letters in the first five minutes without a subscriber", n)
		}
		w.serve("a", s.serve)
		w.sleep(5 * time.Minute)
		if n := s.count() + len(w.dead()); n != 1000 {
			t.Errorf("%d events of 1000 are somewhere", n)
		}
	})
}

func TestRetryAfterHoldsTheLane(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{}
		s.write = func(rw http.ResponseWriter, _ *event.Event) {
			if w.since() < 10*time.Second {
				rw.Header().Set("Retry-After", "10")
				rw.WriteHeader(http.StatusTooManyRequests)
			}
		}
		w.serve("a", s.serve)
		w.dispatcher().Set(w.trigger("t1", "a", func(s *plan.Subscription) { s.Delivery.RetryAfterMax = time.Minute }))
		for i := range 20 {
			w.publish(numbered(i))
		}
		w.sleep(time.Hour)
		if early := len(slices.DeleteFunc(slices.Clone(s.at), func(at time.Time) bool { return at.Sub(w.begin) >= 10*time.Second })); early != 1 {
			t.Errorf("%d attempts in the ten seconds that it asked for, want 1", early)
		}
		if len(s.events) != 21 {
			t.Errorf("%d attempts, want 21", len(s.events))
		}
	})
}

func TestSettingsChangeWhileEventsCome(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := &sink{}, &sink{}
		w.serve("a", a.serve)
		w.serve("b", b.serve)
		d := w.dispatcher()
		sub := w.trigger("t1", "a")
		d.Set(sub)
		w.publish(numbered(1))
		synctest.Wait()
		d.Set(sub) // the same
		sub.Subscriber.URL = "http://b"
		d.Set(sub)
		w.publish(numbered(2))
		synctest.Wait()
		sub.Filter = []plan.Filter{{Exact: []plan.Match{{Attribute: "id", Value: "4"}}}}
		d.Set(sub)
		w.publish(numbered(3), numbered(4))
		synctest.Wait()
		sub.Ordered, sub.Filter = true, nil
		w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: topic, Name: "t1", Ordered: true}))
		d.Set(sub)
		w.publish(numbered(5))
		synctest.Wait()
		d.Remove("t1")
		d.Remove("t1")
		synctest.Wait()
		w.publish(numbered(6))
		synctest.Wait()
		if got := append(a.got(), b.got()...); !slices.Equal(got, []string{"1", "2", "4", "5"}) {
			t.Errorf("got %v", got)
		}
		if n := len(d.clients.users); n != 0 {
			t.Errorf("%d clients are left", n)
		}
	})
}

func TestASubscriptionThatTheEngineDoesNotHaveYet(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{}
		w.serve("a", s.serve)
		sub := w.trigger("t1", "a")
		w.must(w.e.DeleteSubscription(w.ctx, topic, "t1"))
		w.dispatcher().Set(sub)
		w.sleep(10 * time.Second)
		w.trigger("t1", "a")
		w.publish(numbered(1))
		w.sleep(time.Minute)
		if got := s.got(); !slices.Equal(got, []string{"1"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestADeadLetterNobodyTakesStays(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{answer: func(int, *event.Event) int { return 400 }}
		w.serve("a", s.serve)
		w.must(w.e.DeleteTopic(w.ctx, plan.DeadLetters(topic)))
		w.dispatcher().Set(w.trigger("t1", "a"))
		w.publish(numbered(1))
		w.sleep(10 * time.Minute)
		if b := w.backlog("t1"); b.InFlight != 1 {
			t.Errorf("the event is gone: %+v", b)
		}
		w.must(w.e.PutTopic(w.ctx, engine.Topic{Name: plan.DeadLetters(topic), KeepAll: true}))
		w.sleep(10 * time.Minute)
		if b := w.backlog("t1"); b != (engine.Backlog{}) || len(w.dead()) != 1 {
			t.Errorf("%+v, %d dead letters", b, len(w.dead()))
		}
	})
}

// TestTwoTriggersBuryOneEvent: the engine stores a source and id once, and both dead letters have to be there.
func TestTwoTriggersBuryOneEvent(t *testing.T) {
	inBubble(t, func(w *world) {
		s := &sink{answer: func(int, *event.Event) int { return 400 }}
		w.serve("a", s.serve)
		d := w.dispatcher()
		d.Set(w.trigger("t1", "a"))
		d.Set(w.trigger("t2", "a"))
		e := numbered(1)
		w.publish(e)
		w.sleep(time.Minute)
		dead := w.dead()
		if len(dead) != 2 {
			t.Fatalf("%d dead letters, want 2", len(dead))
		}
		for _, letter := range dead {
			if got, want := fmt.Sprintf("%+v", *deadletter.Open(letter, 1, time.Now()).Event), fmt.Sprintf("%+v", *e); got != want {
				t.Errorf("the original is\n%s, want\n%s", got, want)
			}
		}
	})
}

func TestADeadLetterIsRedeliveredToItsSubscriberAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		works := false
		var mu sync.Mutex
		failing, other := &sink{}, &sink{}
		failing.answer = func(int, *event.Event) int {
			mu.Lock()
			defer mu.Unlock()
			if works {
				return 200
			}
			return 400
		}
		w.serve("failing", failing.serve)
		w.serve("other", other.serve)
		d := w.dispatcher()
		d.Set(w.trigger("t1", "failing"))
		d.Set(w.trigger("t2", "other"))
		w.publish(numbered(1))
		synctest.Wait()
		mu.Lock()
		works = true
		mu.Unlock()
		var letters []deadletter.Letter
		collect := func(l deadletter.Letter) error { letters = append(letters, l); return nil }
		w.must(deadletter.List(w.ctx, w.e, topic, engine.From{}, false, collect))
		if len(letters) != 1 || letters[0].Event.ID != "1" || letters[0].Failure.Code != 400 || letters[0].Subscription != "t1" || letters[0].Owner.Name != "t1" {
			t.Fatalf("letters: %+v", letters)
		}
		for range 2 { // twice is once
			_, err := deadletter.Redeliver(w.ctx, w.e, topic, letters[0])
			w.must(err)
		}
		synctest.Wait()
		if got := failing.got(); !slices.Equal(got, []string{"1", "1"}) {
			t.Errorf("its subscriber got %v", got)
		}
		if got, want := fmt.Sprintf("%+v", *failing.events[1]), fmt.Sprintf("%+v", *numbered(1)); got != want {
			t.Errorf("redelivered: %s\nwant %s", got, want)
		}
		if got := other.got(); !slices.Equal(got, []string{"1"}) {
			t.Errorf("another subscriber got %v", got)
		}
		w.must(w.e.DeleteSubscription(w.ctx, topic, "t1"))
		if _, err := deadletter.Redeliver(w.ctx, w.e, topic, letters[0]); !errors.Is(err, engine.ErrNoSubscription) {
			t.Errorf("its subscription is gone: %v", err)
		}
		if err := deadletter.List(w.ctx, w.e, "b.no.topic.0", engine.From{}, false, collect); err != nil || len(letters) != 1 {
			t.Errorf("a topic that is not there: %v", err)
		}
	})
}
