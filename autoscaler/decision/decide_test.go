package decision

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

var t0 = time.Unix(1_700_000_000, 0)

func defaults() Settings {
	return Settings{
		Target: 100, Utilization: 0.7, TargetBurstCapacity: 211, InitialScale: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2,
		PanicThreshold: 2, StableWindow: time.Minute, ScaleToZero: true, Metric: "concurrency",
	}
}

// TestTranscripts runs the files of testdata. Commands:
//
//	set KEY=VALUE…           settings, pods and flags of the revision
//	load stable=N panic=N surge=N surge-of=N in-flight=N   the averages from now on (load above 0 keeps the revision busy)
//	load events=N events-load=N events-stable=N events-panic=N events-serving=B   the backlog
//	at SECONDS               moves the time and decides; prints the decision
//	explain                  prints why
//	leader                   a new leader takes over: nothing is remembered
//
// Replicas follow each decision; pods are ready at once unless `set ready=N` says otherwise (ready=auto undoes it).
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		in := Input{Settings: defaults(), Now: t0, Complete: true, Reachable: true, Missing: "no gateway reports its load"}
		var st State
		var d Decision
		auto := true
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			switch td.Cmd {
			case "set", "load":
				for _, a := range td.CmdArgs {
					if a.Key == "ready" {
						if auto = a.Vals[0] == "auto"; auto {
							in.Ready = in.Current
							continue
						}
					}
					if err := assign(&in, a.Key, a.Vals[0]); err != nil {
						td.Fatalf(t, "%v", err)
					}
				}
				return ""
			case "at":
				seconds, err := strconv.ParseFloat(td.CmdArgs[0].Key, 64)
				if err != nil {
					td.Fatalf(t, "at: %v", err)
				}
				in.Now = t0.Add(time.Duration(seconds * float64(time.Second)))
				if in.InFlight > 0 || in.Panic > 0 || in.Backlog.Events > 0 {
					in.LastBusy = in.Now
				}
				if in.Metric != "rps" {
					in.SurgeOf = int(in.Surge)
				}
				d, st = Decide(in, st)
				out := fmt.Sprintf("desired=%d stable=%d panic=%d excess=%d", d.Desired, d.StableWish, d.PanicWish, d.Excess)
				if d.Panic {
					out += " panicking"
				}
				if !d.Next.IsZero() {
					out += fmt.Sprintf(" next=%gs", d.Next.Sub(t0).Seconds())
				}
				in.Current = d.Desired
				if auto {
					in.Ready = d.Desired
				}
				return out + "\n"
			case "leader":
				st = State{}
				return ""
			case "explain":
				return strings.Join(d.Explain(), "\n") + "\n"
			}
			td.Fatalf(t, "unknown command %q", td.Cmd)
			return ""
		})
	})
}

func assign(in *Input, key, value string) error {
	floats := map[string]*float64{"target": &in.Target, "utilization": &in.Utilization, "burst": &in.TargetBurstCapacity,
		"up": &in.MaxScaleUpRate, "down": &in.MaxScaleDownRate, "threshold": &in.PanicThreshold, "stable": &in.Stable, "panic": &in.Panic, "surge": &in.Surge,
		"events-load": &in.Backlog.Load, "events-stable": &in.Backlog.Stable, "events-panic": &in.Backlog.Panic}
	ints := map[string]*int{"min": &in.MinScale, "max": &in.MaxScale, "initial": &in.InitialScale, "activation": &in.ActivationScale,
		"surge-of": &in.SurgeOf, "ready": &in.Ready, "current": &in.Current, "in-flight": &in.InFlight, "events": &in.Backlog.Events}
	bools := map[string]*bool{"to-zero": &in.ScaleToZero, "complete": &in.Complete, "reachable": &in.Reachable, "failed": &in.Failed, "initialized": &in.Initialized,
		"events-serving": &in.Backlog.Serving}
	durations := map[string]*time.Duration{"window": &in.StableWindow, "delay": &in.ScaleDownDelay, "retention": &in.Retention}
	var err error
	switch {
	case key == "metric":
		in.Metric = value
	case floats[key] != nil:
		*floats[key], err = strconv.ParseFloat(value, 64)
	case ints[key] != nil:
		*ints[key], err = strconv.Atoi(value)
	case bools[key] != nil:
		*bools[key], err = strconv.ParseBool(value)
	case durations[key] != nil:
		*durations[key], err = time.ParseDuration(value)
	default:
		err = fmt.Errorf("unknown key %q", key)
	}
	return err
}

func draw(t *rapid.T) Input {
	in := Input{Settings: defaults(), Now: t0, Complete: rapid.Bool().Draw(t, "complete"), Reachable: rapid.Bool().Draw(t, "reachable")}
	in.Target = float64(rapid.IntRange(1, 200).Draw(t, "target"))
	in.MinScale = rapid.IntRange(0, 5).Draw(t, "min")
	if rapid.Bool().Draw(t, "bounded") {
		in.MaxScale = in.MinScale + rapid.IntRange(1, 20).Draw(t, "max")
	}
	in.InitialScale = rapid.IntRange(0, 4).Draw(t, "initial")
	if rapid.Bool().Draw(t, "activates") {
		in.ActivationScale = rapid.IntRange(2, 5).Draw(t, "activation")
	}
	in.ScaleDownDelay = time.Duration(rapid.IntRange(0, 60).Draw(t, "delay")) * time.Second
	in.Retention = time.Duration(rapid.IntRange(0, 60).Draw(t, "retention")) * time.Second
	in.ScaleToZero = rapid.Bool().Draw(t, "to zero")
	in.MaxScaleUpRate = float64(rapid.IntRange(2, 1000).Draw(t, "up"))
	return in
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := draw(t)
		var st State
		panicked := -1
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			in.Now = in.Now.Add(time.Duration(rapid.IntRange(1, 20000).Draw(t, "ms")) * time.Millisecond)
			in.Panic = float64(rapid.SampledFrom([]int{0, 0, 1, 50, 500, 5000}).Draw(t, "panic"))
			in.Stable = in.Panic * float64(rapid.IntRange(0, 100).Draw(t, "stable")) / 100
			in.Surge = float64(rapid.SampledFrom([]int{0, 0, 10, 1000}).Draw(t, "surge"))
			in.SurgeOf = int(in.Surge)
			in.InFlight = min(int(in.Panic), rapid.IntRange(0, 3).Draw(t, "in flight"))
			in.Backlog.Events = rapid.SampledFrom([]int{0, 0, 1, 50, 5000}).Draw(t, "events")
			in.Backlog.Load = float64(in.Backlog.Events)
			in.Backlog.Panic = float64(rapid.SampledFrom([]int{0, 0, 50, 500}).Draw(t, "of events"))
			in.Backlog.Stable = in.Backlog.Panic / 2
			in.Backlog.Serving = rapid.Bool().Draw(t, "serving")
			if in.Panic > 0 || in.Backlog.Events > 0 || in.Backlog.Panic > 0 { // what a window remembers was there
				in.LastBusy = in.Now
			}
			before := st
			d, next := Decide(in, st)
			again, _ := Decide(in, clone(before))
			if again.Desired != d.Desired {
				t.Fatalf("not a function: %d, then %d", d.Desired, again.Desired)
			}
			if more := in; true {
				more.Stable, more.Panic, more.InFlight = in.Stable*2+1, in.Panic*2+1, in.InFlight+1
				more.Surge, more.SurgeOf = in.Surge*2+1, in.SurgeOf*2+1
				more.Backlog.Events, more.Backlog.Load = in.Backlog.Events+1, in.Backlog.Load*2+1
				more.Backlog.Stable, more.Backlog.Panic = in.Backlog.Stable*2+1, in.Backlog.Panic*2+1
				if m, _ := Decide(more, clone(before)); m.Desired < d.Desired {
					t.Fatalf("more load, fewer pods: %d, %d", d.Desired, m.Desired)
				}
			}
			if without := in; true {
				without.Backlog = Backlog{}
				if m, _ := Decide(without, clone(before)); m.Desired > d.Desired {
					t.Fatalf("with %d events fewer pods: %d, %d", in.Backlog.Events, m.Desired, d.Desired)
				}
			}
			if in.MaxScale > 0 && d.Desired > in.MaxScale {
				t.Fatalf("desired %d above max %d", d.Desired, in.MaxScale)
			}
			if in.Reachable && d.Desired < in.MinScale {
				t.Fatalf("desired %d below min %d", d.Desired, in.MinScale)
			}
			if d.Desired == 0 && (in.InFlight > 0 || in.Backlog.Events > 0 || !in.ScaleToZero && in.Current > 0) {
				t.Fatalf("zero with %d in flight, to zero %v", in.InFlight, in.ScaleToZero)
			}
			if !in.Complete && d.Desired < in.Current {
				t.Fatalf("shrinks from %d to %d on missing data", in.Current, d.Desired)
			}
			if d.Panic && panicked >= 0 && d.Desired < panicked {
				t.Fatalf("shrinks in panic from %d to %d", panicked, d.Desired)
			}
			if !d.Next.IsZero() && d.Next.Before(in.Now) {
				t.Fatalf("wakes in the past: %v", in.Now.Sub(d.Next))
			}
			panicked = -1
			if d.Panic {
				panicked = d.Desired
			}
			st = next
			in.Current = d.Desired
			in.Ready = rapid.IntRange(0, d.Desired).Draw(t, "ready")
		}
	})
}

// While the last pod drains, whatever makes the revision decide anew must not start another stable window.
func TestToZeroStands(t *testing.T) {
	in := Input{Settings: defaults(), Now: t0, Complete: true, Reachable: true, Initialized: true, Ready: 1, Current: 1}
	d, st := Decide(in, State{})
	for now := d.Next; d.Desired > 0; now = d.Next {
		if now.IsZero() {
			t.Fatal("never decides for zero")
		}
		in.Now = now
		d, st = Decide(in, st)
	}
	for range 3 {
		in.Now = in.Now.Add(100 * time.Millisecond)
		if d, st = Decide(in, st); d.Desired != 0 {
			t.Fatalf("desired %d while the last pod drains", d.Desired)
		}
	}
}

func clone(s State) State {
	s.delay = append([]wish(nil), s.delay...)
	return s
}

func BenchmarkDecide(b *testing.B) {
	in := Input{Settings: defaults(), Now: t0, Complete: true, Reachable: true, Stable: 300, Panic: 350, Ready: 5, Current: 5, InFlight: 300}
	var st State
	b.ReportAllocs()
	for b.Loop() {
		in.Now = in.Now.Add(100 * time.Millisecond)
		_, st = Decide(in, st)
	}
}

// A load that stays as it is settles: once the windows are full of it, one decision after another is the same, whatever the settings are,
// and it is reached at once on the way up.
func TestSteadyLoadSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := draw(t)
		in.Complete, in.Reachable = true, true
		in.Ready = rapid.IntRange(0, 20).Draw(t, "ready")
		in.Current = in.Ready
		in.Stable = float64(rapid.IntRange(0, 3000).Draw(t, "load"))
		in.Panic, in.InFlight = in.Stable, int(in.Stable)
		var st State
		var d Decision
		settled, fell := -1, false
		for elapsed := time.Duration(0); elapsed < 20*time.Minute; elapsed += 500 * time.Millisecond {
			in.Now = t0.Add(elapsed)
			if in.InFlight > 0 {
				in.LastBusy = in.Now
			}
			d, st = Decide(in, st)
			if d.Desired != settled {
				if fell && d.Desired > settled {
					t.Fatalf("after %v up to %d again", elapsed, d.Desired)
				}
				fell = d.Desired < settled
				settled = d.Desired
			}
			in.Current, in.Ready = d.Desired, d.Desired
		}
		want := int(pods(in.Stable, in.PerPod()))
		if want > 0 {
			want = max(want, in.ActivationScale)
		} else if !in.ScaleToZero && settled > 0 {
			want = 1
		}
		want = max(want, in.MinScale)
		if in.MaxScale > 0 {
			want = min(want, in.MaxScale)
		}
		if settled != want {
			t.Fatalf("settled at %d, want %d: %q", settled, want, d.Explain())
		}
	})
}

// What is missing makes nothing: no data, no shrinking, and load that is reported counts at once.
func TestMissingData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := draw(t)
		in.MaxScale, in.MaxScaleUpRate = 0, 1e6
		in.Current = rapid.IntRange(0, 20).Draw(t, "current")
		in.Ready = rapid.IntRange(0, in.Current).Draw(t, "ready")
		in.Complete = false
		var st State
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			in.Now = in.Now.Add(time.Duration(rapid.IntRange(1, 90_000).Draw(t, "ms")) * time.Millisecond)
			in.Stable = float64(rapid.IntRange(0, 3000).Draw(t, "load"))
			in.Panic = in.Stable
			if in.Stable > 0 {
				in.LastBusy = in.Now
			}
			var d Decision
			d, st = Decide(in, st)
			if d.Desired < in.Current {
				t.Fatalf("from %d to %d on missing data", in.Current, d.Desired)
			}
			if want := int(pods(in.Stable, in.PerPod())); d.Desired < want {
				t.Fatalf("%d pods, want %d at once", d.Desired, want)
			}
			in.Current, in.Ready = d.Desired, rapid.IntRange(0, d.Desired).Draw(t, "ready now")
		}
	})
}
