package autoscaler

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		check := func(want string, names ...string) {
			t.Helper()
			w.now()
			if err := testutil.CollectAndCompare(w.s.Collector(), strings.NewReader(want), names...); err != nil {
				t.Error(err)
			}
		}
		if problems, err := testutil.CollectAndLint(w.s.Collector()); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
		time.Sleep(5 * time.Minute)                                           // the first pod goes
		check("", "ebb_autoscaler_desired_pods", "ebb_autoscaler_ready_pods") // at zero it has no series
		w.load(35, 20*time.Second)
		check(`
# HELP ebb_autoscaler_desired_pods Pods wished for, of revisions that have or want some.
# TYPE ebb_autoscaler_desired_pods gauge
ebb_autoscaler_desired_pods{namespace="ns",revision="r"} 4
# HELP ebb_autoscaler_panic 1 while the revision is in panic.
# TYPE ebb_autoscaler_panic gauge
ebb_autoscaler_panic{namespace="ns",revision="r"} 1
# HELP ebb_autoscaler_panic_average Load averaged over the panic window, in the unit of the target.
# TYPE ebb_autoscaler_panic_average gauge
ebb_autoscaler_panic_average{namespace="ns",revision="r"} 35
# HELP ebb_autoscaler_ready_pods Pods that serve.
# TYPE ebb_autoscaler_ready_pods gauge
ebb_autoscaler_ready_pods{namespace="ns",revision="r"} 4
# HELP ebb_autoscaler_stable_average Load averaged over the stable window, in the unit of the target.
# TYPE ebb_autoscaler_stable_average gauge
ebb_autoscaler_stable_average{namespace="ns",revision="r"} 35
# HELP ebb_autoscaler_target Load that each pod is to carry: requests in flight or a second.
# TYPE ebb_autoscaler_target gauge
ebb_autoscaler_target{namespace="ns",revision="r"} 10
`, "ebb_autoscaler_desired_pods", "ebb_autoscaler_panic", "ebb_autoscaler_panic_average", "ebb_autoscaler_ready_pods", "ebb_autoscaler_stable_average", "ebb_autoscaler_target")
		if w.s.counts.up.Load() == 0 || w.s.counts.same.Load() == 0 || w.s.counts.down.Load() != 1 {
			t.Errorf("decisions up %d, same %d, down %d", w.s.counts.up.Load(), w.s.counts.same.Load(), w.s.counts.down.Load())
		}
	})
}

// Ten thousand revisions of which more than can be shown are active.
func TestMetricsAreBounded(t *testing.T) {
	w := &world{sighted: time.Now()}
	s := New(Options{Load: w, Drainer: w, Writer: w})
	const known, active = 10000, shownAtMost + 7
	for i := range known {
		r := Revision{Namespace: "ns", Name: fmt.Sprintf("r%d", i), UID: "u", Reachable: true, Initialized: true}
		if i < active {
			r.Replicas, r.Settings.MinScale = 1, 1
		}
		r.Settings.Target, r.Settings.Utilization, r.Settings.StableWindow = 1, 1, time.Minute
		s.Set(r)
	}
	if n := testutil.CollectAndCount(s.Collector(), "ebb_autoscaler_desired_pods"); n != shownAtMost {
		t.Errorf("%d series, want %d", n, shownAtMost)
	}
	err := testutil.CollectAndCompare(s.Collector(), strings.NewReader(`
# HELP ebb_autoscaler_active_revisions Those of them that have or want pods.
# TYPE ebb_autoscaler_active_revisions gauge
ebb_autoscaler_active_revisions 1007
# HELP ebb_autoscaler_revisions Revisions that this autoscaler scales.
# TYPE ebb_autoscaler_revisions gauge
ebb_autoscaler_revisions 10000
# HELP ebb_autoscaler_revisions_without_series Active revisions that are left out because there are too many.
# TYPE ebb_autoscaler_revisions_without_series gauge
ebb_autoscaler_revisions_without_series 7
`), "ebb_autoscaler_active_revisions", "ebb_autoscaler_revisions", "ebb_autoscaler_revisions_without_series")
	if err != nil {
		t.Error(err)
	}
}
