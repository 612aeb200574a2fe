package activator

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLoadIntegral(t *testing.T) {
	const ms = time.Millisecond
	var l load
	l.arrive(10 * ms)
	l.arrive(20 * ms)
	l.end(50*ms, true)
	s := l.take(100 * ms)
	// 10 ms with one request, 30 ms with two, 50 ms with one.
	want := sample{interval: 100 * ms, inProgress: 1, concurrencyMS: 120, issued: 2, succeeded: 1}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	l.end(150*ms, false)
	if s := l.take(200 * ms); s.concurrencyMS != 50 || s.failed != 1 || s.idle() {
		t.Errorf("got %+v, want 50 request·ms and one failure", s)
	}
	if s := l.take(300 * ms); !s.idle() {
		t.Errorf("got %+v, want nothing", s)
	}
}

// Whenever reports are taken, they add up to the sum of the requests' durations.
func TestLoadAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l load
		var now time.Duration
		var began []time.Duration
		var sum, reported float64
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 1e9).Draw(t, "ns"))
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				l.arrive(now)
				began = append(began, now)
			case 1:
				if len(began) > 0 {
					sum += float64(now-began[0]) / 1e6
					began = began[1:]
					l.end(now, true)
				}
			case 2:
				reported += l.take(now).concurrencyMS
			}
		}
		reported += l.take(now).concurrencyMS
		for _, b := range began {
			sum += float64(now-b) / 1e6
		}
		if math.Abs(sum-reported) > 1e-6*max(1, sum) {
			t.Fatalf("requests lasted %v ms, reported %v", sum, reported)
		}
	})
}
