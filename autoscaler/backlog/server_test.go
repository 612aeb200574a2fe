package backlog_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ebb.dev/ebb/autoscaler/backlog"
	teller "ebb.dev/ebb/eventing/backlog"
	"ebb.dev/ebb/eventing/dispatcher"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// deadline is for what takes milliseconds.
const deadline = time.Minute

// world is the control plane's side, without an autoscaler: what that would hear, and where hosts lead.
type world struct {
	t *testing.T

	mu      sync.Mutex
	got     map[string]backlog.Backlog
	changed chan struct{}
	to      map[string][]ir.Backend
	server  *backlog.Server
	stop    func()
	address string
}

func newWorld(t *testing.T, forget time.Duration) *world {
	w := &world{t: t, changed: make(chan struct{}), address: "127.0.0.1:0", to: map[string][]ir.Backend{
		"hello.default.svc.cluster.local":     {{Cluster: "one", Weight: 75}, {Cluster: "two", Weight: 25}},
		"new-hello.default.svc.cluster.local": {{Cluster: "two", Weight: 100}},
		"other.default.svc.cluster.local":     {{Cluster: "three", Weight: 100}},
	}}
	w.lead(forget)
	t.Cleanup(func() { w.stop() })
	return w
}

// lead begins with a control plane that knows nothing, at the address of the former one.
func (w *world) lead(forget time.Duration) {
	w.t.Helper()
	if w.stop != nil {
		w.stop()
	}
	w.mu.Lock()
	w.got = map[string]backlog.Backlog{}
	w.mu.Unlock()
	w.server = backlog.New(backlog.Options{Sink: w, Forget: forget, Most: 3, Backends: func(host string) []ir.Backend {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.to[host]
	}})
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	s := grpc.NewServer()
	w.server.Register(s)
	go func() { _ = s.Serve(l) }()
	w.stop = s.Stop
}

func (w *world) Backlog(cluster string, b backlog.Backlog) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b == (backlog.Backlog{}) {
		delete(w.got, cluster)
	} else {
		w.got[cluster] = b
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until exactly these revisions have a backlog.
func (w *world) await(what string, want map[string]backlog.Backlog) {
	w.t.Helper()
	end := time.After(deadline)
	for {
		w.mu.Lock()
		got, changed := fmt.Sprint(w.got), w.changed
		w.mu.Unlock()
		if got == fmt.Sprint(want) {
			return
		}
		select {
		case <-changed:
		case <-end:
			w.t.Fatalf("%s: the backlogs are %s, want %v", what, got, want)
		}
	}
}

// dispatcher is another process.
func (w *world) dispatcher() (t *teller.Teller, end func()) {
	w.t.Helper()
	conn, err := link.Dial(w.address, insecure.NewCredentials())
	if err != nil {
		w.t.Fatal(err)
	}
	t = teller.New(conn, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { t.Run(ctx) })
	end = sync.OnceFunc(func() { cancel(); running.Wait(); _ = conn.Close() })
	w.t.Cleanup(end)
	return t, end
}

func report(t *teller.Teller, subscription, host string, waiting, inFlight uint64) {
	t.Report([]dispatcher.Backlog{{Subscription: subscription, URL: "http://" + host + "/path", Waiting: waiting, InFlight: inFlight, Parallelism: 100}})
}

const (
	hello = "hello.default.svc.cluster.local"
	tag   = "new-hello.default.svc.cluster.local"
	other = "other.default.svc.cluster.local"
)

type backlogs = map[string]backlog.Backlog

// TestBacklogsFollowTheTraffic: what is told of subscriptions is summed up for the revisions that their hosts lead to, and moves with the traffic.
func TestBacklogsFollowTheTraffic(t *testing.T) {
	w := newWorld(t, 0)
	d, _ := w.dispatcher()
	report(d, "a", hello, 300, 20)
	w.await("by percent", backlogs{"one": {Waiting: 225, InFlight: 15, Demand: 75}, "two": {Waiting: 75, InFlight: 5, Demand: 25}})
	report(d, "b", tag, 10, 10)
	w.await("a tag too", backlogs{"one": {Waiting: 225, InFlight: 15, Demand: 75}, "two": {Waiting: 85, InFlight: 15, Demand: 45}})
	report(d, "a", hello, 0, 4)
	w.await("less", backlogs{"one": {InFlight: 3, Demand: 3}, "two": {Waiting: 10, InFlight: 11, Demand: 21}})

	w.mu.Lock()
	w.to["hello.default.svc.cluster.local"] = []ir.Backend{{Cluster: "three", Weight: 100}}
	w.mu.Unlock()
	w.server.Moved([]string{hello, "unknown.example.com"})
	w.await("another revision", backlogs{"three": {InFlight: 4, Demand: 4}, "two": {Waiting: 10, InFlight: 10, Demand: 20}})
	report(d, "b", other, 10, 10)
	w.await("another subscriber", backlogs{"three": {Waiting: 10, InFlight: 14, Demand: 24}})

	report(d, "c", other, 1, 0)
	w.await("a third one", backlogs{"three": {Waiting: 11, InFlight: 14, Demand: 25}})
	report(d, "d", other, 50, 0) // one too many
	report(d, "c", "nobody.example.com", 7, 0)
	w.await("a host that nobody serves", backlogs{"three": {Waiting: 10, InFlight: 14, Demand: 24}})
	report(d, "a", hello, 0, 0)
	w.await("nothing left of one", backlogs{"three": {Waiting: 10, InFlight: 10, Demand: 20}})
	report(d, "b", other, 0, 0)
	report(d, "c", "nobody.example.com", 0, 0)
	w.await("nothing", backlogs{})
	report(d, "d", other, 51, 0)
	w.await("there is room again", backlogs{"three": {Waiting: 51, Demand: 51}})
}

// TestOfSeveralDispatchersTheLastCounts: values are of a whole subscription, so they are not added up, and those of
// a dispatcher that is gone give way to those of others.
func TestOfSeveralDispatchersTheLastCounts(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	first, endFirst := w.dispatcher()
	report(first, "a", other, 100, 0)
	w.await("one tells", backlogs{"three": {Waiting: 100, Demand: 100}})
	second, endSecond := w.dispatcher()
	report(second, "a", other, 90, 5)
	w.await("another one tells", backlogs{"three": {Waiting: 90, InFlight: 5, Demand: 95}})
	report(first, "a", other, 80, 10)
	w.await("the first one again", backlogs{"three": {Waiting: 80, InFlight: 10, Demand: 90}})
	endFirst()
	w.await("the first one is gone", backlogs{"three": {Waiting: 90, InFlight: 5, Demand: 95}})
	report(second, "b", hello, 4, 0)
	w.await("the second one goes on", backlogs{"three": {Waiting: 90, InFlight: 5, Demand: 95}, "one": {Waiting: 3, Demand: 3}, "two": {Waiting: 1, Demand: 1}})
	endSecond()
	w.await("all are gone", backlogs{})
}

// TestWhatRestsIsNoBacklog: events that dispatchers have put off until their next attempt are taken off, those of each one.
func TestWhatRestsIsNoBacklog(t *testing.T) {
	w := newWorld(t, time.Millisecond)
	tell := func(t *teller.Teller, inFlight, resting uint64) {
		t.Report([]dispatcher.Backlog{{Subscription: "a", URL: "http://" + other, InFlight: inFlight, Resting: resting, Parallelism: 100}})
	}
	first, _ := w.dispatcher()
	tell(first, 10, 4)
	w.await("one has put off four", backlogs{"three": {InFlight: 6, Demand: 6}})
	second, end := w.dispatcher()
	tell(second, 10, 5)
	w.await("another one five", backlogs{"three": {InFlight: 1, Demand: 1}})
	tell(first, 10, 5)
	w.await("all rest", backlogs{})
	tell(second, 10, 3)
	w.await("two are due", backlogs{"three": {InFlight: 2, Demand: 2}})
	end()
	w.await("nobody knows what the second one has put off", backlogs{"three": {InFlight: 5, Demand: 5}})
}

// TestANewLeaderHearsAll: a control plane that knows nothing is told everything once, and what stands meanwhile stays.
func TestANewLeaderHearsAll(t *testing.T) {
	w := newWorld(t, time.Hour)
	d, end := w.dispatcher()
	report(d, "a", other, 100, 0)
	report(d, "b", tag, 5, 0)
	w.await("told", backlogs{"three": {Waiting: 100, Demand: 100}, "two": {Waiting: 5, Demand: 5}})
	w.stop()
	report(d, "b", tag, 0, 0) // nobody hears
	report(d, "a", other, 70, 0)
	w.lead(time.Hour)
	w.await("the next leader", backlogs{"three": {Waiting: 70, Demand: 70}})
	end()
	other2, _ := w.dispatcher()
	report(other2, "b", tag, 6, 0)
	w.await("what was told stands for a while", backlogs{"three": {Waiting: 70, Demand: 70}, "two": {Waiting: 6, Demand: 6}})
}

// TestASecondStreamOfAProcessReplaces: what it does not repeat is forgotten, whether the server has noticed or not that the first stream is broken.
func TestASecondStreamOfAProcessReplaces(t *testing.T) {
	w := newWorld(t, time.Hour)
	conn, err := link.Dial(w.address, insecure.NewCredentials())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	open := func(b ...*link.SubscriptionBacklog) grpc.BidiStreamingClient[link.FromEventing, link.ToEventing] {
		s, err := link.NewBacklogClient(conn).Tell(t.Context())
		if err == nil {
			err = s.Send(&link.FromEventing{Process: "p", Told: true, Backlogs: b})
		}
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one := func(name, host string, waiting uint64) *link.SubscriptionBacklog {
		return &link.SubscriptionBacklog{Subscription: name, Url: "http://" + host, Waiting: waiting, Parallelism: 10}
	}
	old := open(one("a", other, 100), one("b", tag, 5))
	w.await("told", backlogs{"three": {Waiting: 100, Demand: 10}, "two": {Waiting: 5, Demand: 5}})
	now := open(one("a", other, 99))
	w.await("told again", backlogs{"three": {Waiting: 99, Demand: 10}})
	if err := old.Send(&link.FromEventing{Backlogs: []*link.SubscriptionBacklog{one("a", other, 1)}}); err != nil {
		t.Fatal(err)
	}
	_ = old.CloseSend()
	if _, err := old.Recv(); err == nil { // when it has been read
		t.Fatal("the old stream is answered")
	}
	if err := now.Send(&link.FromEventing{Backlogs: []*link.SubscriptionBacklog{one("c", tag, 2)}}); err != nil {
		t.Fatal(err)
	}
	w.await("the old stream is not heard", backlogs{"three": {Waiting: 99, Demand: 10}, "two": {Waiting: 2, Demand: 2}})
	if s, err := link.NewBacklogClient(conn).Tell(t.Context()); err != nil {
		t.Fatal(err)
	} else if err = s.Send(&link.FromEventing{Told: true}); err != nil {
		t.Fatal(err)
	} else if _, err = s.Recv(); err == nil {
		t.Error("a stream without a process is taken")
	}
}
