package window

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Unix(1_700_000_000, 0)

type period struct {
	from, to time.Time
	integral float64
}

// exact is the integral of all periods up to t.
func exact(ps []period, t time.Time) float64 {
	sum := 0.0
	for _, p := range ps {
		switch {
		case !t.Before(p.to):
			sum += p.integral
		case t.After(p.from):
			sum += p.integral * float64(t.Sub(p.from)) / float64(p.to.Sub(p.from))
		}
	}
	return sum
}

func TestLinearAgainstExactIntegral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stable := time.Duration(rapid.IntRange(6, 120).Draw(t, "stable")) * time.Second
		shape := Shape{Stable: stable, Panic: PanicOf(stable, float64(rapid.IntRange(1, 100).Draw(t, "percent")))}
		w := New(shape, t0)
		now := t0
		var ps []period
		for range rapid.IntRange(1, 300).Draw(t, "reports") {
			gap := time.Duration(rapid.IntRange(0, 400).Draw(t, "gap")) * time.Millisecond
			if rapid.IntRange(0, 40).Draw(t, "pause") == 0 {
				gap += time.Duration(rapid.IntRange(1, 100).Draw(t, "pause seconds")) * time.Second
			}
			now = now.Add(gap)
			from := now.Add(-time.Duration(rapid.IntRange(1, 140).Draw(t, "period")) * time.Millisecond)
			if from.Before(t0) {
				from = t0
			}
			if !from.Before(now) {
				continue
			}
			p := period{from, now, float64(rapid.IntRange(1, 1000).Draw(t, "milli")) / 1000}
			ps = append(ps, p)
			w.Add(p.from, p.to, p.integral)

			got := w.Averages(now)
			for size, avg := range map[time.Duration]float64{shape.Stable: got.Stable, shape.Panic: got.Panic} {
				span := min(size, max(now.Sub(t0), minSpan))
				all := exact(ps, now)
				start := now.Add(-span)
				lowEdge := w.begin(w.bucket(start))
				least := all - exact(ps, lowEdge.Add(w.grain))
				most := all - exact(ps, lowEdge)
				if v := avg * span.Seconds(); v < least-1e-6 || v > most+1e-6 {
					t.Fatalf("at %v over %v: integral %v, want within [%v, %v]", now.Sub(t0), size, v, least, most)
				}
			}
		}
	})
}

func TestConstantLoad(t *testing.T) {
	for _, exponential := range []bool{false, true} {
		w := New(Shape{Stable: time.Minute, Panic: 6 * time.Second, Exponential: exponential}, t0)
		now := t0
		for range 1000 {
			now = now.Add(130 * time.Millisecond)
			w.Add(now.Add(-130*time.Millisecond), now, 7*0.13)
			if now.Sub(t0) < time.Second {
				continue
			}
			a := w.Averages(now)
			if math.Abs(a.Stable-7) > 0.01 || math.Abs(a.Panic-7) > 0.01 {
				t.Fatalf("exponential %v at %v: %+v, want 7", exponential, now.Sub(t0), a)
			}
		}
	}
}

func TestExponentialWeighsAsTheReference(t *testing.T) {
	// Load of 1 in the last second only: weight of the newest bucket is the coefficient.
	w := New(Shape{Stable: time.Minute, Panic: 10 * time.Second, Exponential: true}, t0.Add(-time.Hour))
	w.Add(t0.Add(-time.Second), t0, 1)
	a := w.Averages(t0)
	if math.Abs(a.Stable-0.2) > 1e-3 {
		t.Errorf("stable %v, want 0.2", a.Stable)
	}
	if want := 1 - math.Pow(1-0.9999, 1.0/10); math.Abs(a.Panic-want) > 1e-3 {
		t.Errorf("panic %v, want %v", a.Panic, want)
	}
}

func TestIdleHoldsNoMemory(t *testing.T) {
	w := New(Shape{Stable: 6 * time.Second, Panic: time.Second}, t0)
	w.Add(t0, t0.Add(time.Second), 3)
	if a := w.Averages(t0.Add(time.Second)); a.Stable != 3 {
		t.Fatalf("stable %v, want 3", a.Stable)
	}
	if a := w.Averages(t0.Add(8 * time.Second)); a.Stable != 0 || w.total != nil || !w.NextChange(t0.Add(8*time.Second)).IsZero() {
		t.Fatalf("after the window: %+v, buckets %d", a, len(w.total))
	}
}

func TestReshapeKeepsLoad(t *testing.T) {
	w := New(Shape{Stable: time.Minute, Panic: 6 * time.Second}, t0)
	for i := range 60 {
		w.Add(t0.Add(time.Duration(i)*time.Second), t0.Add(time.Duration(i+1)*time.Second), 5)
	}
	w.Reshape(Shape{Stable: 10 * time.Second, Panic: time.Second})
	if a := w.Averages(t0.Add(time.Minute)); math.Abs(a.Stable-5) > 0.3 || math.Abs(a.Panic-5) > 0.3 {
		t.Fatalf("after reshaping: %+v, want 5", a)
	}
}

func BenchmarkAddAverages(b *testing.B) {
	w := New(Shape{Stable: time.Minute, Panic: 6 * time.Second}, t0)
	now := t0
	b.ReportAllocs()
	for b.Loop() {
		from := now
		now = now.Add(100 * time.Millisecond)
		w.Add(from, now, 0.5)
		w.Averages(now)
	}
}
