package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestDenialsShowTheirMessage: what keeps Kubernetes from making a pod is said on the
// Service in Kubernetes' words.
func TestDenialsShowTheirMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		deny  func(*platform.Namespace) error
		words []string
	}{
		"pod-security": {
			func(n *platform.Namespace) error {
				ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.In}}
				patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
				return n.Patch(t.Context(), ns, client.RawPatch(types.MergePatchType, patch))
			},
			[]string{`violates PodSecurity "restricted:latest"`, "allowPrivilegeEscalation"},
		},
		"quota": {
			func(n *platform.Namespace) error {
				q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "no-pods"}, Spec: corev1.ResourceQuotaSpec{
					Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}}}
				if err := n.Create(t.Context(), q); err != nil {
					return err
				}
				_, err := platform.Await(t.Context(), n.Platform, &corev1.ResourceQuotaList{}, func(all []*corev1.ResourceQuota) error {
					if len(all) == 0 || len(all[0].Status.Hard) == 0 {
						return fmt.Errorf("the quota is not counted yet")
					}
					return nil
				}, client.InNamespace(n.In))
				return err
			},
			[]string{"exceeded quota: no-pods", "limited: pods=0"},
		},
		"limit-range": {
			func(n *platform.Namespace) error {
				return n.Create(t.Context(), &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "small"}, Spec: corev1.LimitRangeSpec{
					Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}}}}})
			},
			[]string{"maximum memory usage per Container is 1Mi"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
			if err := test.deny(n); err != nil {
				t.Fatal(err)
			}
			s := n.Service("denied", func(s *v1.Service) {
				s.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
			})
			if err := n.Create(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			n.AwaitService("denied", func(s *v1.Service) error {
				ready := s.Status.Conditions.Get(v1.ConditionReady)
				if !ready.IsFalse() {
					return fmt.Errorf("not failed: %s", platform.Describe(s.Status.Conditions))
				}
				for _, word := range test.words {
					if !strings.Contains(ready.Message, word) {
						return fmt.Errorf("the message does not say %q: %s", word, ready.Message)
					}
				}
				return nil
			})
			var r v1.Revision
			if err := n.WithWatch.Get(t.Context(), key(n, "denied-00001"), &r); err != nil {
				t.Fatal(err)
			}
			if c := r.Status.Conditions.Get(v1.RevisionResourcesAvailable); !c.IsFalse() || c.Reason != "FailedCreate" {
				t.Errorf("the revision says %s", platform.Describe(r.Status.Conditions))
			}
		})
	}
}

// TestDryRunRefusesAtOnce: a Service that asks for it is refused before it is stored, in
// the words that would else come later.
func TestDryRunRefusesAtOnce(t *testing.T) {
	n := begin(t)
	if err := n.Create(t.Context(), &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "small"}, Spec: corev1.LimitRangeSpec{
		Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Mi")}}}}}); err != nil {
		t.Fatal(err)
	}
	s := n.Service("tried", func(s *v1.Service) {
		s.Annotations = map[string]string{serving.DryRunAnnotation: serving.DryRunStrict}
		s.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	})
	if err := n.Create(t.Context(), s.DeepCopy()); err == nil || !strings.Contains(err.Error(), "spec.template") || !strings.Contains(err.Error(), "maximum memory usage per Container is 10Mi") {
		t.Errorf("too much memory: %v", err)
	}
	s.Spec.Template.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("10Mi")
	s.Spec.Template.Annotations[serving.InitialScaleAnnotation] = "0"
	if err := n.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	n.AwaitReady("tried")
}
