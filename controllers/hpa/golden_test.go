package hpa

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/test/golden"
)

func TestMakeHPA(t *testing.T) {
	golden.Run(t, "testdata/make", func(rev *v1.Revision) (any, error) {
		before := rev.DeepCopy()
		a, _ := settings.ParseAutoscaling(settings.Default().Autoscaler, 0, rev.Annotations)
		_, windowed := settings.Annotation(serving.WindowAnnotation, settings.Layer{Annotations: rev.Annotations})
		hpa := makeHPA(rev, a, windowed)
		if diff := cmp.Diff(before, rev); diff != "" {
			t.Errorf("the input was changed:\n%s", diff)
		}
		return map[string]any{"labels": hpa.Labels, "owner": hpa.OwnerReferences[0].Name, "spec": hpa.Spec}, nil
	})
}
