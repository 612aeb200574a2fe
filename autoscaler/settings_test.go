package autoscaler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/apis/serving"
	servingv1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler/decision"
	"ebb.dev/ebb/autoscaler/window"
)

// course is what is decided every second for a revision that has 600 requests in flight (and
// 1200 a second) for 20 s, then a sixth of that for 20 s, then nothing.
func course(s Settings) string {
	begun := time.Unix(1_700_000_000, 0)
	w := window.New(s.Window, begun)
	in := decision.Input{Settings: s.Settings, Complete: true, Reachable: true, Current: 1, Ready: 1}
	var st decision.State
	var out strings.Builder
	for i := range 240 {
		in.Now = begun.Add(time.Duration(i+1) * time.Second)
		load := 0.0
		switch {
		case i < 20:
			load = 600
		case i < 40:
			load = 100
		}
		in.InFlight = int(load)
		if s.Metric == serving.MetricRPS {
			load *= 2
		}
		w.Add(in.Now.Add(-time.Second), in.Now, load)
		a := w.Averages(in.Now)
		in.Stable, in.Panic, in.LastBusy = a.Stable, a.Panic, a.LastBusy
		var d decision.Decision
		d, st = decision.Decide(in, st)
		fmt.Fprintln(&out, i, d.Desired, d.Excess, d.Panic)
		in.Current = d.Desired
		if i > 3 { // the first pods take their time
			in.Ready = d.Desired
		}
	}
	return fmt.Sprint(out.String(), s.Foreign, s.Grace)
}

// TestEverySettingCountsAtOnce: each key of config-autoscaler and each annotation changes what is decided, in the
// store that is in use, and is gone again with the key.
func TestEverySettingCountsAtOnce(t *testing.T) {
	rev := &servingv1.Revision{}
	for _, tc := range []struct {
		name               string
		base, data         map[string]string
		annotations, added string // KEY=VALUE…, of the revision before and with the change
	}{
		{name: "container-concurrency-target-percentage", data: map[string]string{"container-concurrency-target-percentage": "50"}},
		{name: "container-concurrency-target-default", data: map[string]string{"container-concurrency-target-default": "30"}},
		{name: "requests-per-second-target-default", data: map[string]string{"requests-per-second-target-default": "50"}, annotations: "metric=rps"},
		{name: "target-burst-capacity", data: map[string]string{"target-burst-capacity": "-1"}},
		{name: "stable-window", data: map[string]string{"stable-window": "20s"}},
		{name: "panic-window-percentage", data: map[string]string{"panic-window-percentage": "50"}},
		{name: "panic-threshold-percentage", data: map[string]string{"panic-threshold-percentage": "1000"}},
		{name: "max-scale-up-rate", data: map[string]string{"max-scale-up-rate": "1.5"}},
		{name: "max-scale-down-rate", data: map[string]string{"max-scale-down-rate": "1.05"}},
		{name: "enable-scale-to-zero", data: map[string]string{"enable-scale-to-zero": "false"}},
		{name: "scale-to-zero-grace-period", data: map[string]string{"scale-to-zero-grace-period": "7s"}},
		{name: "scale-to-zero-pod-retention-period", data: map[string]string{"scale-to-zero-pod-retention-period": "40s"}},
		{name: "pod-autoscaler-class", data: map[string]string{"pod-autoscaler-class": serving.ClassHPA}},
		{name: "initial-scale", data: map[string]string{"initial-scale": "30"}},
		{name: "allow-zero-initial-scale", base: map[string]string{"initial-scale": "30"}, annotations: "initial-scale=0",
			data: map[string]string{"initial-scale": "30", "allow-zero-initial-scale": "true"}},
		{name: "min-scale", data: map[string]string{"min-scale": "2"}},
		{name: "max-scale", data: map[string]string{"max-scale": "3"}},
		{name: "max-scale-limit", base: map[string]string{"max-scale": "4"}, annotations: "max-scale=50",
			data: map[string]string{"max-scale": "4", "max-scale-limit": "8"}},
		{name: "scale-down-delay", data: map[string]string{"scale-down-delay": "30s"}},

		{name: "annotation class", added: "class=" + serving.ClassHPA},
		{name: "annotation metric", added: "metric=rps"},
		{name: "annotation target", added: "target=20"},
		{name: "annotation target-utilization-percentage", added: "target-utilization-percentage=20"},
		{name: "annotation targetBurstCapacity", added: "targetBurstCapacity=0"},
		{name: "annotation minScale", added: "minScale=2"},
		{name: "annotation maxScale", added: "maxScale=3"},
		{name: "annotation initialScale", added: "initialScale=30"},
		{name: "annotation activationScale", added: "activationScale=4"},
		{name: "annotation scaleDownDelay", added: "scaleDownDelay=30s"},
		{name: "annotation scaleToZeroPodRetentionPeriod", added: "scaleToZeroPodRetentionPeriod=40s"},
		{name: "annotation window", added: "window=20s"},
		{name: "annotation panicWindowPercentage", added: "panicWindowPercentage=50"},
		{name: "annotation panicThresholdPercentage", added: "panicThresholdPercentage=1000"},
		{name: "annotation metricAggregationAlgorithm", added: "metricAggregationAlgorithm=weighted-exponential"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := settings.NewStore()
			get := FromStore(store)
			decide := func(data map[string]string, annotations ...string) string {
				t.Helper()
				if err := store.Update(settings.ConfigAutoscaler, data); err != nil {
					t.Fatal(err)
				}
				layer := map[string]string{}
				for _, a := range annotations {
					if k, v, ok := strings.Cut(a, "="); ok {
						layer[serving.AutoscalingGroup+"/"+k] = v
					}
				}
				s, err := get(rev, layer)
				if err != nil {
					t.Fatal(err)
				}
				return course(s)
			}
			before := decide(tc.base, tc.annotations)
			if tc.data == nil {
				tc.data = tc.base
			}
			if decide(tc.data, tc.annotations, tc.added) == before {
				t.Error("nothing changes")
			}
			if decide(tc.base, tc.annotations) != before {
				t.Error("taken away it is not as before")
			}
		})
	}
}
