package settings

import (
	"encoding/json"
	"strings"
	"testing"

	"ebb.dev/ebb/apis/serving"
)

func find(t *testing.T, all []Setting, name string) Setting {
	t.Helper()
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("%s is not explained", name)
	return Setting{}
}

func TestExplainAutoscaling(t *testing.T) {
	s := NewStore()
	if err := s.Update(ConfigAutoscaler, map[string]string{"stable-window": "30s", "min-scale": "0", "max-scale-up-rate": "10"}); err != nil {
		t.Fatal(err)
	}
	all := s.ExplainAutoscaling(20,
		Layer{"template", map[string]string{serving.TargetAnnotation: "50", serving.TargetUtilizationAnnotation: "57", serving.MetricAnnotation: "speed"}},
		Layer{"Service hello", map[string]string{"autoscaling.knative.dev/minScale": "2", serving.ScaleDownDelayAnnotation: "60s"}},
		Layer{"Revision hello-00001", map[string]string{serving.MinScaleAnnotation: "4", serving.MaxScaleAnnotation: "0"}})
	for _, want := range []Setting{
		{Name: "window", Value: "30s", From: "ConfigMap config-autoscaler", Key: "stable-window"},
		{Name: "max-scale-up-rate", Value: "10", From: "ConfigMap config-autoscaler", Key: "max-scale-up-rate"},
		{Name: "max-scale-down-rate", Value: "2", From: "default"},
		{Name: "min-scale", Value: "4", From: "Revision hello-00001", Key: serving.MinScaleAnnotation},
		{Name: "max-scale", Value: "0", From: "Revision hello-00001", Key: serving.MaxScaleAnnotation},
		{Name: "scale-down-delay", Value: "1m0s", From: "Service hello", Key: serving.ScaleDownDelayAnnotation},
		{Name: "target", Value: "20", From: "template", Key: serving.TargetAnnotation, Note: "50 is written there"},
		{Name: "target-utilization-percentage", Value: "57", From: "template", Key: serving.TargetUtilizationAnnotation},
		{Name: "panic-threshold-percentage", Value: "200", From: "default"},
	} {
		if got := find(t, all, want.Name); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if got := find(t, all, "metric"); got.Value != "concurrency" || got.From != "default" || !strings.Contains(got.Note, `"speed" is not concurrency, rps or ebb.dev/backlog`) {
		t.Errorf("a bad annotation: %+v", got)
	}
	fallen := find(t, s.ExplainAutoscaling(0,
		Layer{"template", map[string]string{serving.WindowAnnotation: "20s"}},
		Layer{"Service hello", map[string]string{serving.WindowAnnotation: "2s"}}), "window")
	if fallen.Value != "20s" || fallen.From != "template" || !strings.Contains(fallen.Note, `Service hello is not taken: "2s" is outside`) {
		t.Errorf("below a bad annotation: %+v", fallen)
	}
	if got := find(t, s.ExplainAutoscaling(20), "target"); got.From != "containerConcurrency" || got.Value != "20" {
		t.Errorf("without an annotation: %+v", got)
	}
}

// Everything that ParseAutoscaling reads is explained.
func TestEveryKeyIsExplained(t *testing.T) {
	all := NewStore().ExplainAutoscaling(0)
	for _, key := range AutoscalingKeys() {
		_, name, _ := strings.Cut(key, "/")
		if got := find(t, all, name); got.Value == "" || got.From != "default" {
			text, _ := json.Marshal(got)
			t.Errorf("%s: %s", name, text)
		}
	}
}
