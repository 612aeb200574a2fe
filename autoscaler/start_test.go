package autoscaler

import (
	"testing"
	"testing/synctest"
	"time"

	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/autoscaler/window"
)

// TestLastStart: the scaler's own steps of a start from zero are noted, once for each start.
func TestLastStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bareWorld(t, 0, 0, Settings{
			Settings: decision.Settings{Target: 10, Utilization: 1, TargetBurstCapacity: 211, MaxScaleUpRate: 1000, MaxScaleDownRate: 2,
				PanicThreshold: 2, StableWindow: time.Minute, ScaleToZero: true, Metric: "concurrency"},
			Window: window.Shape{Stable: time.Minute, Panic: 6 * time.Second},
		})
		w.lead()
		synctest.Wait() // no pod is wanted
		w.s.opt.ColdStarts = coldstart.NewRecorder()
		observe := func(o intake.Observation) {
			o.Cluster, o.Reporter, o.Kind, o.From, o.To = cluster, "a", intake.Activator, time.Now(), time.Now()
			w.s.Observe([]intake.Observation{o})
			synctest.Wait()
		}
		if _, ok := w.s.LastStart("ns", "r"); ok {
			t.Error("there was no start yet")
		}
		begun := time.Now()
		observe(intake.Observation{InFlight: 1})
		s, ok := w.s.LastStart("ns", "r")
		if !ok || !s.Arrived.Equal(begun) || s.At[coldstart.Scaled].IsZero() || s.Complete() {
			t.Fatalf("after the scale is written the start is %+v", s)
		}
		time.Sleep(time.Second)
		observe(intake.Observation{ColdHeld: 300 * time.Millisecond, ColdProbed: 290 * time.Millisecond})
		s, _ = w.s.LastStart("ns", "r")
		if at := s.At[coldstart.Forwarded]; !at.Equal(begun.Add(300*time.Millisecond)) || !s.At[coldstart.Probed].Equal(begun.Add(290*time.Millisecond)) {
			t.Errorf("after the activator's report the start is %+v", s)
		}
		observe(intake.Observation{InFlight: 3}) // with a pod there
		if again, _ := w.s.LastStart("ns", "r"); again != s {
			t.Errorf("a request to a pod that is there made it %+v", again)
		}
		w.s.Remove("ns", "r")
		if _, ok := w.s.LastStart("ns", "r"); ok {
			t.Error("a revision that is gone is remembered")
		}
	})
}
