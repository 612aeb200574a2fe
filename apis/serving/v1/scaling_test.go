package v1

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// TestScalingLayers: the most specific object wins, what a Revision got from its template is not its own, and taking an
// annotation away brings back what was before.
func TestScalingLayers(t *testing.T) {
	rev, c, s := &Revision{}, &Configuration{}, &Service{}
	rev.Name, c.Name, s.Name = "hello-00001", "hello", "hello"
	rev.Annotations = map[string]string{"autoscaling.knative.dev/minScale": "1", "other": "x"}
	NoteTemplateScaling(rev)
	check := func(what, minScale, burst string) {
		t.Helper()
		before := rev.DeepCopy()
		layers := ScalingLayers(rev, c, s)
		got, _ := settings.Annotation(serving.MinScaleAnnotation, layers...)
		if got != minScale {
			t.Errorf("%s: min-scale %q, want %q", what, got, minScale)
		}
		scaled := Scaled(rev, c, s)
		if diff := cmp.Diff(before, rev); diff != "" {
			t.Errorf("%s: the Revision was changed:\n%s", what, diff)
		}
		a, wrong := settings.ParseAutoscaling(settings.Default().Autoscaler, 0, scaled.Annotations)
		b, _ := settings.ParseAutoscaling(settings.Default().Autoscaler, 0, settings.Annotations(layers...)...)
		if len(wrong) > 0 || a != b {
			t.Errorf("%s: merged %+v %v, in layers %+v", what, a, wrong, b)
		}
		if burst != "" && scaled.Annotations[serving.TargetBurstCapacityAnnotation] != burst {
			t.Errorf("%s: burst capacity %q", what, scaled.Annotations[serving.TargetBurstCapacityAnnotation])
		}
		if scaled.Annotations["other"] != "x" {
			t.Errorf("%s: other annotations are %v", what, scaled.Annotations)
		}
	}
	check("template", "1", "")
	c.Annotations = map[string]string{serving.MinScaleAnnotation: "2", serving.TargetBurstCapacityAnnotation: "-1"}
	check("configuration", "2", "-1")
	s.Annotations = map[string]string{serving.MinScaleAnnotation: "3"}
	check("service", "3", "-1")
	rev.Annotations[serving.MinScaleAnnotation] = "4"
	check("revision", "4", "-1")
	delete(rev.Annotations, serving.MinScaleAnnotation)
	check("service again", "3", "-1")
	rev.Annotations["autoscaling.knative.dev/minScale"] = "5"
	check("the template's annotation changed on the revision", "5", "")
	rev.Annotations["autoscaling.knative.dev/minScale"] = "1"
	s.Annotations, c.Annotations = nil, nil
	check("template again", "1", "")
	if Scaled(rev, nil, nil) != rev {
		t.Error("a copy is made though nothing is inherited")
	}

	plain := &Revision{}
	plain.Annotations = map[string]string{"other": "x"}
	NoteTemplateScaling(plain)
	if len(plain.Annotations) != 1 {
		t.Errorf("noted %v", plain.Annotations)
	}
}

func TestOverruledTemplate(t *testing.T) {
	s := &Service{}
	s.Annotations = map[string]string{serving.MinScaleAnnotation: "2", serving.MaxScaleAnnotation: "5", serving.WindowAnnotation: "9s"}
	s.Spec.Template.Annotations = map[string]string{"autoscaling.knative.dev/minScale": "1", serving.MaxScaleAnnotation: "5"}
	want := []string{`metadata.annotations[autoscaling.knative.dev/min-scale]: "2" wins over "1" in spec.template.metadata.annotations`}
	if diff := cmp.Diff(want, s.Warnings()); diff != "" {
		t.Error(diff)
	}
}
