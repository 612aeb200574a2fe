package autoscaler

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ebb.dev/ebb/autoscaler/backlog"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
	"ebb.dev/ebb/proxy/ir"
)

const cluster = "rev/ns/r/u"

// world is a revision with its pods, a load and a data plane that acknowledges after 10 ms.
type world struct {
	t    *testing.T
	s    *Scaler
	stop context.CancelFunc
	mu   sync.Mutex

	replicas int
	pods     []Pod
	made     int
	busy     map[netip.AddrPort]int
	idle     chan struct{} // closed when busy changes
	draining []string
	log      []string
	sighted  time.Time
	missing  string
	begun    time.Time
	stamps   bool          // in the log
	starting time.Duration // of a pod until it is ready
	deaf     bool          // no gateway acknowledges
	loaded   []string      // reporters whose last report had load
	settings Settings
	backlog  backlog.Backlog
}

func newWorld(t *testing.T, replicas int) *world {
	w := bareWorld(t, replicas, 0, Settings{
		Settings: decision.Settings{Target: 10, Utilization: 1, TargetBurstCapacity: 211, InitialScale: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2,
			PanicThreshold: 2, StableWindow: time.Minute, ScaleToZero: true, Metric: "concurrency"},
		Window: window.Shape{Stable: time.Minute, Panic: 6 * time.Second},
	})
	w.lead()
	return w
}

// bareWorld has no Scaler yet.
func bareWorld(t *testing.T, replicas int, starting time.Duration, set Settings) *world {
	w := &world{t: t, begun: time.Now(), starting: starting, replicas: replicas, busy: map[netip.AddrPort]int{}, idle: make(chan struct{}), sighted: time.Now().Add(-time.Hour), settings: set}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reconcile()
	return w
}

// lead begins with a Scaler that knows nothing; a former one has ended.
func (w *world) lead() {
	if w.stop != nil {
		w.stop()
	}
	s := New(Options{Load: w, Drainer: w, Writer: w})
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(func() { cancel(); synctest.Wait() })
	w.mu.Lock()
	w.s, w.stop, w.draining = s, cancel, nil
	w.mu.Unlock()
	go s.Start(ctx)
	synctest.Wait()
	w.tell()
}

// reconcile makes and deletes pods as a ReplicaSet does: by deletion cost, then the youngest.
func (w *world) reconcile() {
	var begin []string
	for len(w.pods) < w.replicas {
		w.made++
		w.pods = append(w.pods, Pod{Name: fmt.Sprintf("p%d", w.made), Ready: w.starting == 0, Running: true, Created: time.Now(),
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(w.made)}), 8080)})
		begin = append(begin, w.pods[len(w.pods)-1].Name)
	}
	if w.starting > 0 && len(begin) > 0 {
		go w.ready(begin, w.starting)
	}
	for len(w.pods) > w.replicas {
		i := 0
		for j, p := range w.pods {
			if p.Cost < w.pods[i].Cost || p.Cost == w.pods[i].Cost && p.Created.After(w.pods[i].Created) {
				i = j
			}
		}
		p := w.pods[i]
		if w.busy[p.Addr] > 0 {
			w.t.Errorf("pod %s is deleted with %d requests in flight", p.Name, w.busy[p.Addr])
		}
		if !slices.Contains(w.draining, p.Name) {
			w.t.Errorf("pod %s is deleted while it gets new requests", p.Name)
		}
		w.note("deleted %s", p.Name)
		w.pods = slices.Delete(w.pods, i, i+1)
	}
}

// note keeps what was done; w is locked.
func (w *world) note(format string, args ...any) {
	if w.stamps {
		w.log = append(w.log, w.stamped(format, args...))
		return
	}
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// ready makes pods ready after a while.
func (w *world) ready(pods []string, after time.Duration) {
	time.Sleep(after)
	w.mu.Lock()
	for i := range w.pods {
		w.pods[i].Ready = w.pods[i].Ready || slices.Contains(pods, w.pods[i].Name)
	}
	w.mu.Unlock()
	w.tell()
}

func (w *world) tell() {
	w.mu.Lock()
	scaler := w.s
	r := Revision{Namespace: "ns", Name: "r", UID: "u", Settings: w.settings, Timeout: 5 * time.Minute, Reachable: true,
		Replicas: w.replicas, Pods: slices.Clone(w.pods)}
	w.mu.Unlock()
	scaler.Set(r)
}

func (w *world) Scale(_ context.Context, _, _ string, n int) error {
	w.mu.Lock()
	w.note("scale %d", n)
	w.replicas = n
	w.reconcile()
	w.mu.Unlock()
	go w.tell()
	return nil
}

func (w *world) DeletionCost(_ context.Context, _, pod string, cost int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("cost %s %d", pod, cost)
	for i := range w.pods {
		if w.pods[i].Name == pod {
			w.pods[i].Cost = cost
		}
	}
	return nil
}

func (w *world) Drain(_, _ string, pods []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.draining, pods) {
		w.note("drain %v", pods)
	}
	w.draining = slices.Clone(pods)
}

func (w *world) AwaitDrained(ctx context.Context, _, _ string) error {
	acked := time.After(10 * time.Millisecond)
	if w.deaf {
		acked = nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-acked:
		return nil
	}
}

func (w *world) InFlight(_ string, pod netip.AddrPort) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy[pod], true
}

func (w *world) AwaitIdle(ctx context.Context, _ string, pods []netip.AddrPort) error {
	for {
		w.mu.Lock()
		n, changed := 0, w.idle
		for _, p := range pods {
			n += w.busy[p]
		}
		w.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (w *world) Sighted() (time.Time, string) { return w.sighted, w.missing }

// load is n requests in flight for d, reported every 100 ms.
func (w *world) load(n int, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		now := time.Now()
		w.s.Observe([]intake.Observation{{Cluster: cluster, Reporter: "g", From: now.Add(-100 * time.Millisecond), To: now,
			Concurrency: float64(n) / 10, InFlight: n, Issued: n}})
	}
}

func (w *world) on(pod int, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(pod)}), 8080)] = n
	close(w.idle)
	w.idle = make(chan struct{})
}

func (w *world) now() (replicas int, draining []string, log []string) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	log = w.log
	w.log = nil
	return w.replicas, slices.Clone(w.draining), log
}

func TestFromZeroAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		begun := time.Now()
		w.s.Observe([]intake.Observation{{Cluster: cluster, Reporter: "a", Kind: intake.Activator, From: begun, To: begun, InFlight: 1}})
		if n, _, _ := w.now(); n != 1 || time.Since(begun) != 0 {
			t.Fatalf("a poke made %d replicas after %v, want 1 at once", n, time.Since(begun))
		}
		w.load(35, 20*time.Second)
		w.s.Observe([]intake.Observation{{Cluster: cluster, Reporter: "a", Kind: intake.Activator, From: begun, To: time.Now()}})
		if n, _, _ := w.now(); n != 4 {
			t.Fatalf("35 requests in flight made %d replicas, want 4", n)
		}
		w.load(0, 100*time.Millisecond)
		w.on(1, 1) // a long request holds one pod
		time.Sleep(5 * time.Minute)
		if n, d, log := w.now(); n != 1 || !slices.Equal(d, []string{"p1"}) {
			t.Fatalf("with one long request: %d replicas, draining %v, want 1 and [p1]; %v", n, d, log)
		}
		w.on(1, 0)
		if n, _, log := w.now(); n != 0 || slices.Index(log, "cost p1 -1000") < 0 {
			t.Fatalf("idle: %d replicas, want 0; %v", n, log)
		}
		time.Sleep(time.Hour)
		if _, d, log := w.now(); len(d) != 0 || len(log) > 1 {
			t.Errorf("at zero: draining %v, did %v", d, log)
		}
	})
}

func TestDemandTakesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.on(1, 1)
		time.Sleep(2 * time.Minute)
		if n, d, _ := w.now(); n != 1 || !slices.Equal(d, []string{"p1"}) {
			t.Fatalf("%d replicas, draining %v, want 1 and [p1]", n, d)
		}
		w.load(1, 100*time.Millisecond)
		if n, d, log := w.now(); n != 1 || len(d) != 0 || !slices.Equal(log, []string{"drain []"}) {
			t.Fatalf("demand returned: %d replicas, draining %v; %v", n, d, log)
		}
	})
}

func TestNothingShrinksAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		w.sighted = time.Now()
		w.tell()
		w.load(1, 59*time.Second)
		if n, _, log := w.now(); n != 8 {
			t.Fatalf("%d replicas within the first window, want 8; %v", n, log)
		}
		w.load(1, 30*time.Second)
		if n, _, _ := w.now(); n != 1 {
			t.Fatalf("%d replicas after the window, want 1", n)
		}
		if text := w.s.Explain("ns", "r"); len(text) == 0 {
			t.Error("nothing to explain")
		}
	})
}

func TestSettingsTakeEffectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.settings.MinScale = 3
		w.tell()
		if n, _, _ := w.now(); n != 3 {
			t.Fatalf("min-scale 3 made %d replicas", n)
		}
	})
}

func TestVictims(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	pods := []Pod{
		{Name: "old-busy", Ready: true, Running: true, Created: at(1)},
		{Name: "young-idle", Ready: true, Running: true, Created: at(9)},
		{Name: "old-idle", Ready: true, Running: true, Created: at(2)},
		{Name: "marked", Ready: true, Running: true, Created: at(3)},
		{Name: "unready", Running: true, Created: at(1)},
		{Name: "pending", Created: at(1)},
	}
	load := map[string]int{"old-busy": 5, "marked": 2}
	var got []string
	for _, p := range victims(pods, 6, map[string]time.Time{"marked": at(5)}, func(p Pod) int { return load[p.Name] }) {
		got = append(got, p.Name)
	}
	if want := []string{"pending", "unready", "marked", "young-idle", "old-idle", "old-busy"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// BenchmarkObserve: one observation to its decision, with idle revisions beside it.
func BenchmarkObserve(b *testing.B) {
	for _, idle := range []int{0, 10000} {
		b.Run(fmt.Sprintf("idle=%d", idle), func(b *testing.B) {
			w := &world{sighted: time.Now().Add(-time.Hour)}
			s := New(Options{Load: w, Drainer: w, Writer: w})
			set := Settings{Settings: decision.Settings{Target: 100, Utilization: 0.7, InitialScale: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2,
				PanicThreshold: 2, StableWindow: time.Minute, ScaleToZero: true}, Window: window.Shape{Stable: time.Minute, Panic: 6 * time.Second}}
			for i := range idle + 1 {
				s.Set(Revision{Namespace: "ns", Name: fmt.Sprintf("r%d", i), UID: "u", Settings: set})
			}
			now := time.Now()
			obs := []intake.Observation{{Cluster: ir.RevisionCluster("ns", "r0", "u"), Reporter: "g", Concurrency: 5, InFlight: 50, Issued: 10}}
			b.ReportAllocs()
			for b.Loop() {
				obs[0].From, obs[0].To = now, now.Add(100*time.Millisecond)
				now = obs[0].To
				s.Observe(obs)
			}
		})
	}
}

// Another autoscaler takes over while a pod drains: the pod serves again, and nothing more is written until it is given back.
func TestAnotherClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.on(1, 1)
		time.Sleep(2 * time.Minute)
		if _, d, _ := w.now(); !slices.Equal(d, []string{"p1"}) {
			t.Fatalf("draining %v, want [p1]", d)
		}
		w.settings.Foreign = true
		w.tell()
		if _, d, log := w.now(); len(d) != 0 || !slices.Equal(log, []string{"drain []"}) {
			t.Fatalf("handed over: draining %v; %v", d, log)
		}
		w.on(1, 0)
		time.Sleep(time.Hour)
		if n, d, log := w.now(); n != 1 || len(d) != 0 || len(log) != 0 {
			t.Fatalf("with another class: %d replicas, draining %v; %v", n, d, log)
		}
		w.settings.Foreign = false
		w.tell()
		time.Sleep(2 * time.Minute)
		if n, _, log := w.now(); n != 0 {
			t.Fatalf("given back: %d replicas, want 0; %v", n, log)
		}
	})
}
