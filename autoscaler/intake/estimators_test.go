package intake

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkEstimators compares ways to make an average over a minute of looks and counts; the figures are how far each is off as a
// rule, in percent. "slower" is a load whose requests take twice as long since the minute began, as when an application is in trouble.
func BenchmarkEstimators(b *testing.B) {
	const runs = 60
	minute := 60 * time.Second
	for _, tc := range []struct {
		name string
		make func(*rand.Rand) requests
	}{
		{"5ms-Poisson-40/s", poisson(40, 5*time.Millisecond)},
		{"5ms-Poisson-400/s", poisson(400, 5*time.Millisecond)},
		{"5ms-in-step-20-at-once", together(20, 100*time.Millisecond, 5*time.Millisecond)},
		{"1s-Poisson-30/s", poisson(30, time.Second)},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var off [6]float64
			for b.Loop() {
				off = [6]float64{}
				for seed := range uint64(runs) {
					rnd := rand.New(rand.NewPCG(seed, 11))
					r := tc.make(rnd)
					slow := requests{began: r.began, stay: 2 * r.stay}
					even := schedule{least: 60 * time.Millisecond, most: 140 * time.Millisecond, random: rnd.Float64}
					begin := time.Unix(1_700_000_000, 0)
					add := func(i int, got, want float64) { off[i] += (got/want - 1) * (got/want - 1) / runs }
					// Two minutes; the average is that of the second, the first is what a longer memory has.
					chance, _ := average(r, slow, func(time.Duration) time.Duration {
						return 60*time.Millisecond + time.Duration(rnd.Int64N(int64(80*time.Millisecond)))
					}, false)
					spread, known := average(r, slow, func(t time.Duration) time.Duration { return even.next(begin.Add(t)) }, true)
					exact, exactSlow := r.integral(minute, 2*minute), slow.integral(minute, 2*minute)
					add(0, chance[1], exact)
					add(1, spread[1], exact)
					add(2, known.begun[1]*(spread[0]+spread[1])/(known.begun[0]+known.begun[1]), exact)
					add(3, chance[2], exactSlow)
					add(4, spread[2], exactSlow)
					add(5, known.begun[1]*(spread[0]+spread[2])/(known.begun[0]+known.begun[1]), exactSlow)
				}
			}
			for i, name := range []string{"chance", "spread", "Little", "chance-slower", "spread-slower", "Little-slower"} {
				b.ReportMetric(100*math.Sqrt(off[i]), name+"-%")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

type counts struct{ begun [2]float64 }

// average is the integral by looks of r in the first and the second minute, and of slow in the second.
func average(r, slow requests, next func(time.Duration) time.Duration, span bool) (sums [3]float64, c counts) {
	last := 0
	for t := time.Duration(0); ; {
		d := next(t)
		if t += d; t >= 2*time.Minute {
			return sums, c
		}
		if span {
			d = 100 * time.Millisecond
		}
		n, begun := r.at(t)
		m, _ := slow.at(t)
		part := 0
		if t >= time.Minute {
			part = 1
			sums[2] += float64(m) * d.Seconds()
		}
		sums[part] += float64(n) * d.Seconds()
		c.begun[part] += float64(begun - last)
		last = begun
	}
}
