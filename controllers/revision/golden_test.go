package revision

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/test/golden"
)

func TestMakeDeployment(t *testing.T) {
	golden.Run(t, "testdata/deployment", func(rev *v1.Revision) (any, error) {
		before := rev.DeepCopy()
		d := makeDeployment(rev, settings.Default(), "10.0.0.9:8013")
		if diff := cmp.Diff(before, rev); diff != "" {
			t.Errorf("the input was changed:\n%s", diff)
		}
		return d, nil
	})
}

// observed is one input of observe: what was known, and what is seen now.
type observed struct {
	Initial    int32              `json:"initial"`
	Deployment *appsv1.Deployment `json:"deployment"`
	Pods       []corev1.Pod       `json:"pods"`
	Status     v1.RevisionStatus  `json:"status"`
}

func TestObserve(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	golden.Run(t, "testdata/observe", func(in observed) (any, error) {
		observe(&in.Status, in.Deployment, in.Pods, in.Initial, now)
		return in.Status, nil
	})
}
