package faults

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"ebb.dev/ebb/test/e2e/platform"
)

var (
	chaosFor = flag.Duration("chaos", 30*time.Second, "how long TestChaos makes faults")
	seed     = flag.Uint64("seed", 0, "of TestChaos; 0: one drawn by chance, and printed")
)

// TestChaos makes all faults but the gateway's end in an order drawn by chance, some of them two at a time, again and
// again. At the end no GET has failed, no held request is lost, and all is as it was.
//
//	go test ./test/e2e/faults -run TestChaos -chaos 10m -rate 500 -seed 7
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	chance := rand.New(rand.NewPCG(*seed, 0))
	s := newTen(t)
	s.showOnFailure(t)
	all := slices.DeleteFunc(append(ofParts(), ofPods()...), func(f fault) bool { return f.on == "gateway" })
	var order []fault
	draw := func() fault {
		if len(order) == 0 { // each once in a round: what was just started anew is not killed again at once
			order = slices.Clone(all)
			chance.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		f := order[0]
		order = order[1:]
		return f
	}
	ctx, cancel := context.WithTimeout(t.Context(), *chaosFor+2*platform.Deadline)
	defer cancel()
	var waiting sync.WaitGroup
	changing := make(chan struct{}, 1)
	made := 0
	for began := time.Now(); time.Since(began) < *chaosFor; {
		now := []fault{draw()}
		if chance.IntN(3) == 0 {
			if f := draw(); now[0].beside(f) {
				now = append(now, f)
			} else {
				order = append([]fault{f}, order...)
			}
		}
		var ends []func()
		for _, f := range now {
			s.tell("%s", f.name)
			ends = append(ends, f.begin(t, s))
			made++
		}
		h := s.callZero(t)
		waiting.Go(func() {
			for _, err := range h.wait() {
				t.Error(err)
			}
		})
		if chance.IntN(2) == 0 {
			select {
			case changing <- struct{}{}:
				waiting.Go(func() {
					defer func() { <-changing }()
					if err := s.change(ctx); err != nil {
						t.Error(err)
					}
				})
			default: // the last one is not in effect yet
			}
		}
		s.await(t, 10+chance.IntN(max(int(lasting.Seconds()*float64(*perSecond)), 1)))
		for i, end := range ends {
			end()
			s.tell("%s: whole again", now[i].name)
		}
		s.await(t, 1+chance.IntN(*perSecond))
	}
	waiting.Wait()
	t.Logf("%d faults in %v", made, *chaosFor)
	s.clean(t, all)
}

// beside says whether another fault may begin while f lasts: on something else, without the kube-apiserver where that is
// away, and with a control plane where the activator has to learn all from it before those that wait for it give up.
func (f fault) beside(other fault) bool {
	parts := []string{f.on, other.on}
	return !slices.Contains(parts, everything) && f.on != other.on && !(f.away && other.asks) && !(slices.Contains(parts, "controller") && slices.Contains(parts, "activator")) && !other.away
}
