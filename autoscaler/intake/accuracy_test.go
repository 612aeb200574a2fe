package intake

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	lrs "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/autoscaler/window"
)

// requests are what an application had: when each began, and for how long all of them stayed.
type requests struct {
	began []time.Duration // sorted
	stay  time.Duration
}

// inFlight at t and begun up to t.
func (r requests) at(t time.Duration) (inFlight, begun int) {
	upTo := func(t time.Duration) int {
		n, _ := slices.BinarySearch(r.began, t+1)
		return n
	}
	return upTo(t) - upTo(t-r.stay), upTo(t)
}

// integral of the requests in flight from a to b, in request·seconds: the application's own count.
func (r requests) integral(a, b time.Duration) float64 {
	sum := 0.0
	for _, t := range r.began {
		sum += max(min(t+r.stay, b)-max(t, a), 0).Seconds()
	}
	return sum
}

// envoy sends its reports to sess when it is told to, for so long, and hands each on with the time of the look: as an
// Envoy does, with a delay each way.
func (r requests) envoy(sess *session, rnd *rand.Rand, length time.Duration, looked func(at time.Duration, inFlight, issued int)) {
	begin := time.Unix(1_700_000_000, 0)
	delay := func() time.Duration { return time.Duration(rnd.ExpFloat64() * float64(200*time.Microsecond)) }
	at, counted := time.Duration(0), 0
	must(sess.report(reportOf(0, 0, 0), begin))
	for at < length {
		came := at + delay()
		last := at
		at = came + sess.next(begin.Add(came)) + delay()
		n, begun := r.at(at)
		msg := reportOf(n, begun-counted, at-last)
		must(sess.report(msg, begin.Add(at+delay())))
		looked(at, n, begun-counted)
		counted = begun
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func reportOf(inFlight, issued int, interval time.Duration) []byte {
	req := &lrs.LoadStatsRequest{}
	if inFlight > 0 || issued > 0 {
		c := stats("c", 0, "10.0.0.1:8080", uint64(inFlight), uint64(issued))
		c.LoadReportInterval.Nanos = int32(interval)
		req.ClusterStats = []*endpoint.ClusterStats{c}
	}
	b, _ := proto.Marshal(req)
	return b
}

// into is a Sink that fills a window as the Scaler does.
type into struct{ *window.Window }

func (w into) Observe(obs []Observation) {
	for _, o := range obs {
		w.Add(o.From, o.To, o.Concurrency)
	}
}

func poisson(perSecond float64, stay time.Duration) func(*rand.Rand) requests {
	return func(rnd *rand.Rand) requests {
		r := requests{stay: stay}
		for t := 0.0; t < 130; t += rnd.ExpFloat64() / perSecond {
			r.began = append(r.began, time.Duration(t*1e9))
		}
		return r
	}
}

// together: n requests at once, each period.
func together(n int, period, stay time.Duration) func(*rand.Rand) requests {
	return func(rnd *rand.Rand) requests {
		r := requests{stay: stay}
		for t := time.Duration(rnd.Int64N(int64(period))); t < 130*time.Second; t += period {
			for range n {
				r.began = append(r.began, t)
			}
		}
		return r
	}
}

// TestAccuracy compares the average over a minute with the application's own count: of every seed, and the mean of all, which shows
// a bias that one run does not.
func TestAccuracy(t *testing.T) {
	const runs = 24
	for _, tc := range []struct {
		name       string
		make       func(*rand.Rand) requests
		each, mean float64 // how far off one run may be, and the mean of all
	}{
		{"1 s, Poisson, 30/s", poisson(30, time.Second), 0.02, 0.005},
		{"1 s, 30 at once each second", together(30, time.Second, time.Second), 0.02, 0.005},
		{"1 s, 30 at once, one in two seconds", together(30, 2*time.Second, time.Second), 0.05, 0.01},
		{"5 ms, Poisson, 1000/s", poisson(1000, 5*time.Millisecond), 0.10, 0.02},
		{"5 ms, in step: 20 at once each 100 ms", together(20, 100*time.Millisecond, 5*time.Millisecond), 0.10, 0.02},
		{"5 ms, in step: each 20 ms", together(1, 20*time.Millisecond, 5*time.Millisecond), 0.10, 0.02},
		{"5 ms, in step: each 10 ms", together(1, 10*time.Millisecond, 5*time.Millisecond), 0.10, 0.02},
		{"22 ms, in step: each 100 ms", together(1, 100*time.Millisecond, 22*time.Millisecond), 0.10, 0.02},
		// Seldom and short: 600 looks a minute cannot see one run of it exactly, but they favour no side.
		{"5 ms, 20 at once each 61.8 ms", together(20, 61800*time.Microsecond, 5*time.Millisecond), 1, 0.06},
		{"5 ms, 20 at once each 97 ms", together(20, 97*time.Millisecond, 5*time.Millisecond), 1, 0.08},
		{"5 ms, 20 at once each 200 ms", together(20, 200*time.Millisecond, 5*time.Millisecond), 1, 0.09},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var off []float64
			for seed := range uint64(runs) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				r := tc.make(rnd)
				begin := time.Unix(1_700_000_000, 0)
				w := window.New(window.Shape{Stable: time.Minute, Panic: 6 * time.Second}, begin)
				s := New(Options{Sink: into{w}})
				sess := s.newSession()
				sess.schedule.random = rnd.Float64
				s.sessions[sess] = struct{}{}
				// A minute to fill the window and some.
				end := time.Duration(0)
				r.envoy(sess, rnd, 90*time.Second, func(at time.Duration, _, _ int) { end = at })
				got := w.Averages(begin.Add(end)).Stable
				want := r.integral(end-time.Minute, end) / 60
				off = append(off, got/want-1)
			}
			mean, worst, square := 0.0, 0.0, 0.0
			for _, o := range off {
				mean += o / runs
				worst = max(worst, math.Abs(o))
				square += o * o / runs
			}
			t.Logf("off by %+.1f %% in the mean, %.1f %% at most, %.1f %% as a rule", 100*mean, 100*worst, 100*math.Sqrt(square))
			if worst > tc.each || math.Abs(mean) > tc.mean {
				t.Errorf("off by %s, want at most %g each and %g in the mean", fmt.Sprint(off), tc.each, tc.mean)
			}
		})
	}
}
