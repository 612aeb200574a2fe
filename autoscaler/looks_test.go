package autoscaler

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
)

// gatewayLooks gives what a gateway tells each 100 ms of requests that begin at random, so many a second on average, and stay for so long.
func gatewayLooks(rnd *rand.Rand, begin time.Time, length time.Duration, perSecond func(time.Duration) float64, stay time.Duration, each func(intake.Observation)) {
	var ends []time.Duration
	next := time.Duration(0)
	for t := time.Duration(0); t < length; t += 100 * time.Millisecond {
		issued := 0
		for ; next <= t; next += time.Duration(rnd.ExpFloat64() / perSecond(next) * 1e9) {
			ends = append(ends, next+stay)
			issued++
		}
		left := ends[:0]
		for _, e := range ends {
			if e > t {
				left = append(left, e)
			}
		}
		ends = left
		o := intake.Observation{Reporter: "g", From: begin.Add(t - 100*time.Millisecond), To: begin.Add(t), InFlight: len(ends), Issued: issued}
		o.Concurrency = float64(o.InFlight) / 10
		each(o)
	}
}

// TestSurge: load at random that the pods are enough for never counts as a surge in hundreds of thousands of requests, whatever its size and its
// length; five times as much does at the third look.
func TestSurge(t *testing.T) {
	for _, rps := range []bool{false, true} {
		for _, target := range []float64{1, 7, 70} {
			for _, stay := range []time.Duration{5 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second} {
				t.Run(fmt.Sprintf("rps=%v/target=%g/%v", rps, target, stay), func(t *testing.T) {
					const pods, minute = 3, time.Minute
					steady := pods * target
					if !rps {
						steady /= stay.Seconds()
					}
					begin := time.Unix(1_700_000_000, 0)
					in := decision.Input{Complete: true, Reachable: true, Initialized: true, Ready: pods, Current: pods, Settings: decision.Settings{
						Target: target, Utilization: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2, PanicThreshold: 2, StableWindow: minute}}
					rnd := rand.New(rand.NewPCG(1, uint64(target)))
					looks := map[string]look{}
					// Enough requests, and no more than a test has time for.
					length := min(20*time.Minute, time.Duration(3e5/steady*float64(time.Second)))
					gatewayLooks(rnd, begin, length, func(time.Duration) float64 { return steady }, stay, func(o intake.Observation) {
						looks["g"] = looks["g"].after(&o, rps)
						in.Surge, in.SurgeOf = surge(looks)
						if d, _ := decision.Decide(in, decision.State{}); d.Panic {
							t.Fatalf("after %v: surge of %g, with %d in flight, %d begun", o.To.Sub(begin), in.Surge, o.InFlight, o.Issued)
						}
					})
					if target < 7 || stay > time.Second || rps && target < 70 {
						return // too little of it to tell it from chance at once
					}
					in.Now, in.Panic, in.Stable = begin, steady, steady
					seen, wish := 0, 0
					var st decision.State
					gatewayLooks(rnd, begin, time.Second, func(time.Duration) float64 { return 5 * steady }, stay, func(o intake.Observation) {
						looks["g"] = looks["g"].after(&o, rps)
						in.Surge, in.SurgeOf = surge(looks)
						in.Now = o.To
						in.Panic, in.Stable = pods*target, pods*target // they have not moved yet
						var d decision.Decision
						d, st = decision.Decide(in, st)
						if wish = d.Desired; wish <= pods {
							seen++
						}
					})
					most := 2 + int(stay/(100*time.Millisecond)) // until the requests in flight are that many
					if wish < 3*pods || seen > most {
						t.Errorf("%d pods after a second, the first more after %d looks", wish, seen)
					}
				})
			}
		}
	}
}

// TestSteadyLoadNeverFlaps: with load at random, in the middle between two numbers of pods, the number is found and kept.
func TestSteadyLoadNeverFlaps(t *testing.T) {
	for seed := range uint64(10) {
		begin := time.Unix(1_700_000_000, 0)
		shape := window.Shape{Stable: time.Minute, Panic: 6 * time.Second}
		w := window.New(shape, begin)
		in := decision.Input{Complete: true, Reachable: true, Initialized: true, Ready: 1, Current: 1, Settings: decision.Settings{
			Target: 20, Utilization: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2, PanicThreshold: 2, StableWindow: shape.Stable}}
		var st decision.State
		looks := map[string]look{}
		settled := 0
		gatewayLooks(rand.New(rand.NewPCG(seed, 3)), begin, 20*time.Minute, func(time.Duration) float64 { return 250 }, 200*time.Millisecond, func(o intake.Observation) {
			looks["g"] = looks["g"].after(&o, false)
			w.Add(o.From, o.To, o.Concurrency)
			a := w.Averages(o.To)
			in.Now, in.Stable, in.Panic, in.InFlight, in.LastBusy = o.To, a.Stable, a.Panic, o.InFlight, a.LastBusy
			in.Surge, in.SurgeOf = surge(looks)
			var d decision.Decision
			d, st = decision.Decide(in, st)
			if o.To.Sub(begin) > 3*time.Minute {
				if settled == 0 {
					settled = d.Desired
				}
				if d.Desired != settled || settled != 3 {
					t.Fatalf("seed %d after %v: %d pods, before %d, want 3: %q", seed, o.To.Sub(begin), d.Desired, settled, d.Explain())
				}
			}
			in.Current, in.Ready = d.Desired, d.Desired
		})
	}
}
