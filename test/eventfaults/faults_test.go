package eventfaults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
)

// fault makes one and returns when it is over: what was killed has been killed and comes back by itself, what lasted has been taken away.
type fault struct {
	name string
	make func(t *testing.T, w *world, l *load) (note string)
}

func faults() []fault {
	return []fault{
		{"one of two eventing parts killed, not the leader", func(t *testing.T, w *world, _ *load) string {
			w.eventing[1-w.leader(t)].kill()
			return ""
		}},
		{"the leading eventing part killed", killLeader},
		{"both eventing parts killed", func(_ *testing.T, w *world, _ *load) string {
			for _, p := range w.eventing {
				p.kill()
			}
			return ""
		}},
		{"NATS killed", func(_ *testing.T, w *world, _ *load) string { w.nats.kill(); return "" }},
		{"the subscriber killed", func(_ *testing.T, w *world, _ *load) string { w.subscriber.kill(); return "" }},
		{"the store full: a subscriber away until producers were told 429", fullStore},
		{"the disk full until nothing was stored", fullDisk},
		{"a slow store: NATS stopped for 300 of each 400 ms, ten times", slowStore},
		{"NATS hangs for three seconds", func(_ *testing.T, w *world, _ *load) string {
			w.nats.signal(syscall.SIGSTOP)
			<-time.After(3 * time.Second)
			w.nats.signal(syscall.SIGCONT)
			return ""
		}},
	}
}

// killLeader also makes a Trigger, which only a leader makes Ready.
func killLeader(t *testing.T, w *world, _ *load) string {
	w.eventing[w.leader(t)].kill()
	begin := time.Now()
	trigger := &eventingv1.Trigger{}
	w.apply(t, trigger, `{metadata: {name: later}, spec: {broker: main, filter: {attributes: {type: none}}, subscriber: {uri: "http://127.0.0.1:1/"}}}`)
	w.awaitTrigger(t, "later")
	took := time.Since(begin)
	if err := w.kube.Delete(t.Context(), trigger); err != nil {
		t.Error(err)
	}
	await(t, "the Trigger goes", func() error {
		var list eventingv1.TriggerList
		if err := w.kube.List(t.Context(), &list); err != nil {
			return err
		}
		if len(list.Items) != 2 {
			return fmt.Errorf("there are %d", len(list.Items))
		}
		return nil
	})
	return fmt.Sprintf("a new Trigger was Ready after %.1f s", took.Seconds())
}

func fullStore(t *testing.T, w *world, l *load) string {
	before, begin := l.count(http.StatusTooManyRequests), time.Now()
	back := w.subscriber.hold()
	defer back()
	await(t, "producers are told 429", func() error {
		if n := l.count(http.StatusTooManyRequests) - before; n < producers {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	return fmt.Sprintf("full after %.1f s", time.Since(begin).Seconds())
}

func fullDisk(t *testing.T, w *world, l *load) string {
	if w.disk == "" {
		return "not made: it takes root to mount a small disk"
	}
	before := l.count(http.StatusServiceUnavailable) + l.count(http.StatusTooManyRequests) + l.broken.Load()
	path := filepath.Join(w.disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close(); _ = os.Remove(path) }()
	block := make([]byte, 1<<16)
	await(t, "producers are told that nothing can be stored", func() error {
		for {
			if _, err := f.Write(block); err != nil { // to the last page, and again when the store has given some back
				break
			}
		}
		if n := l.count(http.StatusServiceUnavailable) + l.count(http.StatusTooManyRequests) + l.broken.Load() - before; n < 2*producers {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	return ""
}

func slowStore(_ *testing.T, w *world, _ *load) string {
	for range 10 {
		w.nats.signal(syscall.SIGSTOP)
		<-time.After(300 * time.Millisecond)
		w.nats.signal(syscall.SIGCONT)
		<-time.After(100 * time.Millisecond)
	}
	return ""
}

// TestEventFaults: no event that was acknowledged is lost, whatever dies, hangs or is full; an ordered Trigger gets each partition's events
// for the first time in their order.
func TestEventFaults(t *testing.T) {
	if *events == 0 {
		t.Skip("it takes minutes, and the machine for itself: go test ./test/eventfaults -v -events 12000")
	}
	storeBytes := min(max(*events/10*700, 2<<20), 24<<20)
	w := newWorld(t, storeBytes)
	ctx, stop := context.WithCancel(t.Context())
	l := startLoad(ctx, w.urls, *rate)
	t.Cleanup(func() { stop(); l.wait.Wait() })

	var all []fault
	for _, f := range faults() {
		if strings.Contains(f.name, *only) {
			all = append(all, f)
		}
	}
	t.Logf("seed %d", *seed)
	draw := rand.New(rand.NewPCG(*seed, 0))
	todo := append([]fault(nil), all...)
	for range *random {
		todo = append(todo, all[draw.IntN(len(all))])
	}
	type line struct {
		name, note           string
		events, twice        int
		acknowledged, killed time.Duration
		inorder              time.Duration
		refused, unanswered  int64
	}
	deliveries := func() (all, one int) {
		a, b := w.killed.totals()
		c, d := w.inorder.totals()
		return a + c, b + d
	}
	var table []line
	started := time.Now()
	for i, f := range todo {
		await(t, "events are acknowledged", func() error {
			if n := l.taken.Load(); n < int64((i+1)**events/(len(todo)+2)) {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		events := l.taken.Load()
		a, b := deliveries()
		again := a - b
		refused, broken := l.count(429)+l.count(503), l.broken.Load()
		note := f.make(t, w, l)
		over, then := time.Now(), l.acknowledged()
		r := line{name: f.name, note: note}
		// Of each producer one event that it began to send when the fault was over.
		await(t, f.name+": events are acknowledged, and delivered, again", func() error {
			now := l.acknowledged()
			waits := error(nil)
			for k, n := range now {
				if n <= then[k]+1 {
					waits = fmt.Errorf("none is acknowledged of producer %d since number %d", k, then[k])
				}
			}
			if waits == nil && r.acknowledged == 0 {
				r.acknowledged = time.Since(over)
			}
			for _, c := range []struct {
				of   *tally
				took *time.Duration
				name string
			}{{w.killed, &r.killed, "killed"}, {w.inorder, &r.inorder, "inorder"}} {
				if err := c.of.past(then); err != nil {
					waits = fmt.Errorf("Trigger %s: %w", c.name, err)
				} else if *c.took == 0 {
					*c.took = time.Since(over)
				}
			}
			return waits
		})
		for i := range w.eventing {
			w.awaitReady(t, i)
		}
		a, b = deliveries()
		r.events, r.twice = int(l.taken.Load()-events), a-b-again
		r.refused, r.unanswered = l.count(429)+l.count(503)-refused, l.broken.Load()-broken
		table = append(table, r)
		t.Logf("%s: %+v", f.name, r)
	}
	await(t, "events are acknowledged", func() error {
		if n := l.taken.Load(); n < int64(*events) {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	took := time.Since(started)
	stop()
	l.wait.Wait()
	for _, failure := range l.failures {
		t.Error(failure)
	}
	acknowledged := l.acknowledged()
	lost := func(c *tally, name string) error {
		if n, example := c.missing(acknowledged); n > 0 {
			return fmt.Errorf("%d did not come to Trigger %s, one is %s", n, name, example)
		}
		return nil
	}
	await(t, "all that was acknowledged comes", func() error {
		if err := lost(w.killed, "killed"); err != nil {
			return err
		}
		return lost(w.inorder, "inorder")
	})

	fmt.Println("| fault | events meanwhile | refused, without an answer | delivered twice | acknowledged again after | delivered again after, ordered | |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, r := range table {
		fmt.Printf("| %s | %d | %d, %d | %d | %.1f s | %.1f s, %.1f s | %s |\n", r.name, r.events, r.refused, r.unanswered, r.twice,
			r.acknowledged.Seconds(), r.killed.Seconds(), r.inorder.Seconds(), r.note)
	}
	for name, c := range map[string]*tally{"unordered": w.killed, "ordered": w.inorder} {
		all, one := c.totals()
		fmt.Printf("%s: %d events, %d delivered twice (%.2f %%), longest replay %d back\n", name, one, all-one, 100*float64(all-one)/float64(one), c.back)
	}
	_, dead := w.dead.totals()
	fmt.Printf("%d events acknowledged in %.0f s, none lost; %d dead letters; NATS ended by itself %d times; seed %d\n", l.taken.Load(), took.Seconds(), dead, w.nats.endedByItself(), *seed)
	if w.inorder.wrong > 0 {
		t.Errorf("%d events came out of order, such as: %s", w.inorder.wrong, w.inorder.example)
	}
	if dead > 0 {
		t.Errorf("%d events are dead letters: their subscribers were never away for as long as they are tried", dead)
	}
}
