package activator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"ebb.dev/ebb/proxy/link"
)

const testCluster = "rev/default/hello-00001/11111111"

// world is an environment in a synctest bubble: pods answer probes from the moment up says.
type world struct {
	environment
	mu     sync.Mutex
	begin  time.Time
	up     map[string]time.Duration // by address
	probed map[string][]time.Duration
	pokes  []time.Duration
	shares []*link.Share
	stuck  []bool
	cancel context.CancelFunc
}

func newWorld(t *testing.T) *world {
	w := &world{begin: time.Now(), up: map[string]time.Duration{}, probed: map[string][]time.Duration{}}
	m := newMetrics(func() int { return 0 })
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	w.environment = environment{
		name: "act-1", self: "act-1@1", now: func() time.Duration { return time.Since(w.begin) },
		holdTimeout: time.Minute, total: &bound{max: 1000}, bytes: &bound{max: 1 << 20}, metrics: m, reporter: w, member: w, context: ctx,
		probe: prober{once: w.once, metrics: m},
	}
	t.Cleanup(cancel)
	return w
}

func (w *world) once(_ context.Context, t target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.begin)
	w.probed[t.address()] = append(w.probed[t.address()], now)
	if at, ok := w.up[t.address()]; ok && now >= at {
		return nil
	}
	return errors.New("refused")
}

func (w *world) activate(*revision) {}

func (w *world) share(s *link.Share) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shares = append(w.shares, s)
}

func (w *world) waits(_ string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stuck = append(w.stuck, on)
}

func (w *world) poke(*revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pokes = append(w.pokes, time.Since(w.begin))
}

func describe(pods ...*link.Pod) *link.Revision {
	return &link.Revision{
		Cluster: testCluster, Namespace: "default", Name: "hello-00001",
		ContainerConcurrency: 1, Timeout: durationpb.New(10 * time.Second), Pods: pods,
	}
}

func podAt(n int) *link.Pod {
	return &link.Pod{Name: fmt.Sprintf("p%d", n), Address: fmt.Sprintf("10.0.0.%d", n), Port: 8080}
}

type result struct {
	pod string
	err error
	at  time.Duration
	t   *ticket
}

// request starts a request and returns what becomes of it.
func (w *world) request(ctx context.Context, r *revision) <-chan result {
	out := make(chan result, 1)
	go func() {
		x := &ticket{}
		_, err := r.acquire(ctx, x)
		res := result{err: err, at: time.Since(w.begin), t: x}
		if x.pod != nil {
			res.pod = x.pod.name
		}
		out <- res
	}()
	synctest.Wait()
	return out
}

func statusOf(err error) int {
	var no *refusal
	if errors.As(err, &no) {
		return no.status
	}
	return 0
}

func TestFromZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		first, second := w.request(t.Context(), r), w.request(t.Context(), r)
		if len(w.pokes) != 1 || w.pokes[0] != 0 {
			t.Fatalf("pokes at %v, want one at once", w.pokes)
		}
		w.up["10.0.0.1:8080"] = 225 * time.Millisecond
		time.Sleep(200 * time.Millisecond)
		if err := r.apply(describe(podAt(1))); err != nil {
			t.Fatal(err)
		}
		got := <-first
		if got.pod != "p1" || got.at != 230*time.Millisecond {
			t.Errorf("first request got %+v, want p1 at the probe after 225 ms", got)
		}
		if n := len(w.probed["10.0.0.1:8080"]); n != 4 {
			t.Errorf("%d probes, want 4, every 10 ms from 200", n)
		}
		time.Sleep(time.Second)
		if n := len(w.probed["10.0.0.1:8080"]); n != 4 {
			t.Errorf("%d probes: a pod that serves was probed on", n)
		}
		r.release(got.t, true)
		if got := <-second; got.pod != "p1" {
			t.Errorf("second request got %+v", got)
		} else {
			r.release(got.t, true)
		}
	})
}

func TestProbePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 10)
		_ = r.apply(describe(podAt(1)))
		time.Sleep(60 * time.Second)
		w.mu.Lock()
		at := w.probed["10.0.0.1:8080"]
		w.mu.Unlock()
		for i, pair := range []struct{ at, pause time.Duration }{{0, 10 * time.Millisecond}, {2 * time.Second, 50 * time.Millisecond}, {50 * time.Second, time.Second}} {
			for j := range at[1:] {
				if at[j] >= pair.at {
					if d := at[j+1] - at[j]; d != pair.pause {
						t.Errorf("%d: after %v a pause of %v, want %v", i, pair.at, d, pair.pause)
					}
					break
				}
			}
		}
		before := len(at)
		_ = r.apply(describe()) // the pod is gone
		time.Sleep(10 * time.Second)
		if n := len(w.probed["10.0.0.1:8080"]); n != before {
			t.Errorf("a pod that is gone was probed %d times", n-before)
		}
	})
}

func TestHeldRequestsEnd(t *testing.T) {
	failing := describe()
	failing.Failure = "exec: \"serve\": not found"
	for _, c := range []struct {
		name   string
		do     func(r *revision, leave context.CancelFunc)
		status int
		at     time.Duration
	}{
		{"timeout while unknown", func(*revision, context.CancelFunc) {}, http.StatusGatewayTimeout, time.Minute},
		{"timeout of the revision", func(r *revision, _ context.CancelFunc) { _ = r.apply(describe()) }, http.StatusGatewayTimeout, 10 * time.Second},
		{"cannot start", func(r *revision, _ context.CancelFunc) { _ = r.apply(failing) }, http.StatusServiceUnavailable, time.Second},
		{"does not exist", func(r *revision, _ context.CancelFunc) { r.remove() }, http.StatusNotFound, time.Second},
		{"deleted", func(r *revision, _ context.CancelFunc) { _ = r.apply(describe()); r.remove() }, http.StatusServiceUnavailable, time.Second},
		{"client left", func(_ *revision, leave context.CancelFunc) { leave() }, 0, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.cancel()
				r := newRevision(testCluster, &w.environment, 10)
				ctx, leave := context.WithCancel(t.Context())
				out := w.request(ctx, r)
				time.Sleep(time.Second)
				c.do(r, leave)
				got := <-out
				leave()
				if got.err == nil || statusOf(got.err) != c.status || got.at != c.at {
					t.Errorf("ended with %v (%d) at %v, want status %d at %v", got.err, statusOf(got.err), got.at, c.status, c.at)
				}
				r.release(got.t, false)
				if r.queue.waiting != 0 || r.load.inProgress != 0 || w.total.n.Load() != 0 {
					t.Errorf("%d waiting, %d in progress, %d in all, want none", r.queue.waiting, r.load.inProgress, w.total.n.Load())
				}
			})
		})
	}
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 1)
		ctx, leave := context.WithCancel(t.Context())
		first := w.request(ctx, r)
		got := <-w.request(t.Context(), r)
		var no *refusal
		if !errors.As(got.err, &no) || no.status != 503 || no.retryAfter == 0 {
			t.Errorf("got %v, want 503 with Retry-After", got.err)
		}
		leave()
		<-first
		w.request(t.Context(), r)
		if r.queue.waiting != 1 {
			t.Errorf("the place of the client that left was not given away")
		}
	})
}

// Whose pods are used: ready ones without a probe, never draining ones or another activator's.
func TestWhichPods(t *testing.T) {
	ready := func(p *link.Pod) *link.Pod { p.Ready = true; return p }
	for _, c := range []struct {
		name string
		spec func(*link.Revision)
		want string
	}{
		{"ready", func(r *link.Revision) { r.Pods = []*link.Pod{ready(podAt(1))} }, "p1"},
		{"draining", func(r *link.Revision) {
			r.Pods = []*link.Pod{ready(podAt(1)), ready(podAt(2))}
			r.Pods[0].Draining = true
		}, "p2"},
		{"another activator's", func(r *link.Revision) {
			r.Pods = []*link.Pod{ready(podAt(1)), ready(podAt(2))}
			r.Pods[0].Activator, r.Pods[1].Activator = "act-2@1", "act-1@1"
		}, "p2"},
		{"exec probe, not ready", func(r *link.Revision) {
			r.Pods = []*link.Pod{podAt(1)}
			r.Probe = &link.Probe{Kind: &link.Probe_Kubelet_{Kubelet: &link.Probe_Kubelet{}}}
		}, ""},
		{"answers", func(r *link.Revision) { r.Pods = []*link.Pod{podAt(1)} }, "p1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.cancel()
				w.up["10.0.0.1:8080"] = 0
				r := newRevision(testCluster, &w.environment, 10)
				spec := describe()
				c.spec(spec)
				if err := r.apply(spec); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if got := <-w.request(ctx, r); got.pod != c.want {
					t.Errorf("got pod %q, want %q", got.pod, c.want)
				}
			})
		})
	}
}

// A pod that cannot be reached is probed again, and the request waits for any pod.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		w.up["10.0.0.1:8080"] = 500 * time.Millisecond
		r := newRevision(testCluster, &w.environment, 10)
		p := podAt(1)
		p.Ready = true
		_ = r.apply(describe(p))
		got := <-w.request(t.Context(), r)
		if err := r.again(t.Context(), got.t); err != nil {
			t.Fatal(err)
		}
		if at := time.Since(w.begin); at < 500*time.Millisecond || at > 550*time.Millisecond {
			t.Errorf("went on at %v, want when the pod answers again", at)
		}
		if len(w.pokes) != 1 {
			t.Errorf("%d pokes, want one: no pod serves", len(w.pokes))
		}
	})
}

func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		watched := map[string]bool{}
		tab := &table{
			env: &w.environment, maxHeld: 10, maxEntries: 2, maxUnknown: 2, idleAfter: time.Minute,
			watch: func(name string, on bool) { watched[name] = on }, unknown: map[string]struct{}{},
		}
		if _, no := tab.lookup("nonsense"); no == nil || no.status != 400 {
			t.Errorf("a malformed name got %v", no)
		}
		r, _ := tab.lookup(testCluster)
		p := podAt(1)
		p.Ready = true
		_ = tab.apply(testCluster, describe(p))
		if _, no := tab.lookup("rev/a/b/c"); no != nil || !watched["rev/a/b/c"] {
			t.Errorf("a second revision got %v", no)
		}
		if _, no := tab.lookup("rev/a/b/d"); no == nil || no.status != 503 {
			t.Errorf("a third revision got %v, want 503: the table is full", no)
		}
		time.Sleep(31 * time.Second)
		tab.evict()
		if watched["rev/a/b/c"] || tab.size() != 1 {
			t.Error("an unknown revision was not forgotten")
		}
		time.Sleep(10 * time.Minute)
		tab.evict()
		if tab.size() != 1 {
			t.Error("a revision with pods was forgotten")
		}
		_ = tab.apply(testCluster, describe())
		tab.evict()
		if tab.size() != 0 || watched[testCluster] {
			t.Error("an idle revision was kept")
		}
		if ok, _ := r.acquire(t.Context(), &ticket{}); ok {
			t.Error("an evicted revision took a request")
		}
	})
}

// Many requests through a limit: never more on a pod, none forgotten.
func TestLimitIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.cancel()
		r := newRevision(testCluster, &w.environment, 1000)
		a, b := podAt(1), podAt(2)
		a.Ready, b.Ready = true, true
		spec := describe(a, b)
		spec.ContainerConcurrency, spec.Timeout = 3, durationpb.New(time.Hour)
		_ = r.apply(spec)
		var mu sync.Mutex
		running, most := map[*pod]int{}, 0
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				x := &ticket{}
				if _, err := r.acquire(t.Context(), x); err != nil {
					t.Error(err)
				}
				mu.Lock()
				running[x.pod]++
				most = max(most, running[x.pod])
				mu.Unlock()
				time.Sleep(time.Duration(1+i%7) * time.Millisecond)
				mu.Lock()
				running[x.pod]--
				mu.Unlock()
				r.release(x, true)
			})
		}
		all.Wait()
		if most != 3 {
			t.Errorf("at most %d at once on a pod, want 3", most)
		}
	})
}
