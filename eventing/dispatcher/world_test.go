package dispatcher

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/engine/memory"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

const topic = "b.default.main.0a1b2c3d"

// world is a store, a network in memory with real HTTP servers on it, and dispatchers, in a bubble with a clock of its own.
type world struct {
	*testing.T
	ctx   context.Context
	store memory.Store
	e     *memory.Engine
	begin time.Time

	mu    sync.Mutex
	hosts map[string]chan net.Conn
	stop  []func()
}

func inBubble(t *testing.T, f func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, ctx: t.Context(), hosts: map[string]chan net.Conn{}, begin: time.Now()}
		w.e = w.store.Open()
		w.must(w.e.PutTopic(w.ctx, engine.Topic{Name: topic}))
		w.must(w.e.PutTopic(w.ctx, engine.Topic{Name: plan.DeadLetters(topic), KeepAll: true}))
		defer func() {
			for _, stop := range slices.Backward(w.stop) {
				stop()
			}
		}()
		f(w)
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// sleep lets so much time of the bubble pass, and all that happens in it.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// since is the time since the test began.
func (w *world) since() time.Duration { return time.Since(w.begin) }

// dispatcher is one more process with an engine of its own.
func (w *world) dispatcher(change ...func(*Options)) *Dispatcher {
	o := Options{Engine: w.store.Open(), Dial: w.dial, Logger: slog.New(slog.NewTextHandler(testWriter{w.T}, nil))}
	for _, c := range change {
		c(&o)
	}
	d := New(o)
	w.stop = append(w.stop, func() { kill(d) })
	return d
}

type testWriter struct{ t *testing.T }

func (x testWriter) Write(b []byte) (int, error) {
	x.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// kill ends a dispatcher as its machine would: nothing it has is given back.
func kill(d *Dispatcher) {
	_ = d.options.Engine.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.Drain(ctx)
}

func (w *world) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	host := w.hosts[address]
	w.mu.Unlock()
	if host == nil {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	client, server := net.Pipe()
	select {
	case host <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve has a server at http://host.
func (w *world) serve(host string, handler http.HandlerFunc) {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	w.mu.Lock()
	w.hosts[host+":80"] = l.conns
	w.mu.Unlock()
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	w.stop = append(w.stop, func() { _ = server.Close(); <-done })
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// trigger is a subscription in the engine, with defaults that a test changes.
func (w *world) trigger(name, host string, change ...func(*plan.Subscription)) plan.Subscription {
	s := plan.Subscription{
		Topic: topic, Name: name, Owner: plan.Reference{Kind: "Trigger", Namespace: "default", Name: name, UID: name},
		Subscriber: plan.Target{URL: "http://" + host}, ReplyTopic: topic, PartitionKey: "partitionkey", Parallelism: 100,
		Delivery: plan.Delivery{Retry: 3, Backoff: plan.Linear, Delay: time.Second, Timeout: time.Minute},
	}
	for _, c := range change {
		c(&s)
	}
	w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: s.Topic, Name: s.Name, Ordered: s.Ordered, AckWait: 30 * time.Second}))
	return s
}

func numbered(id int) *event.Event {
	return &event.Event{ID: fmt.Sprint(id), Source: "/test", Type: "t", DataContentType: "text/plain", Data: fmt.Appendf(nil, "event %d", id)}
}

func (w *world) publish(events ...*event.Event) {
	w.Helper()
	for _, e := range events {
		if _, err := w.e.Publish(w.ctx, topic, e); err != nil {
			w.Fatal(err)
		}
	}
}

// backlog is what is left of a subscription.
func (w *world) backlog(name string) engine.Backlog {
	w.Helper()
	b, err := w.e.Backlog(w.ctx, topic, name)
	w.must(err)
	return b
}

// dead are the dead letters that are stored.
func (w *world) dead() []*event.Event { return w.stored(plan.DeadLetters(topic)) }

func (w *world) stored(topic string) (all []*event.Event) {
	w.Helper()
	t, err := w.e.Tail(w.ctx, topic, engine.From{Sequence: 1})
	w.must(err)
	defer t.Close()
	for {
		ctx, cancel := context.WithTimeout(w.ctx, time.Nanosecond)
		e, _, _, err := t.Next(ctx)
		cancel()
		if err != nil {
			return all
		}
		all = append(all, e)
	}
}

// sink answers 200 and keeps what it got.
type sink struct {
	mu     sync.Mutex
	events []*event.Event
	header []http.Header
	at     []time.Time
	most   int // at once
	now    int

	answer func(n int, e *event.Event) int // status; nil: 200
	write  func(http.ResponseWriter, *event.Event)
	takes  time.Duration
}

func (s *sink) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	events, err := event.FromHTTP(r.Header, body, event.DefaultLimits)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	n := len(s.events)
	s.events, s.header, s.at = append(s.events, events[0]), append(s.header, r.Header), append(s.at, time.Now())
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-r.Context().Done():
		}
	}
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	if s.write != nil {
		s.write(w, events[0])
		return
	}
	status := http.StatusOK
	if s.answer != nil {
		status = s.answer(n, events[0])
	}
	w.WriteHeader(status)
	if status >= 300 {
		fmt.Fprintf(w, "status %d", status)
	}
}

func (s *sink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := []string{}
	for _, e := range s.events {
		ids = append(ids, e.ID)
	}
	return ids
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

func reply(w http.ResponseWriter, e *event.Event) {
	e.ToHTTP(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(e.Data)
}
