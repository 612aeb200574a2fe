package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestPodFields: what a template says of where and how its pods run is admitted, reaches the pod unchanged, and the pod serves.
func TestPodFields(t *testing.T) {
	n := begin(t)
	high := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: n.In}, Value: 1000}
	class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: n.In}, Handler: "processes"}
	if n.OnCluster() {
		class.Handler = "runc" // of containerd
	}
	for _, o := range []client.Object{high, class} { // these have no namespace
		create(n, o)
		t.Cleanup(func() {
			if err := n.Delete(context.Background(), o); err != nil {
				t.Error(err)
			}
		})
	}
	want := corev1.PodSpec{
		PriorityClassName: high.Name,
		RuntimeClassName:  &class.Name,
		NodeSelector:      map[string]string{"kubernetes.io/os": "linux"},
		Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
			{Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "kubernetes.io/hostname"}}}}},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}},
		DNSPolicy:             corev1.DNSNone,
		DNSConfig:             &corev1.PodDNSConfig{Nameservers: []string{"10.0.0.10"}, Searches: []string{"example.org"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}}},
		HostAliases:           []corev1.HostAlias{{IP: "127.0.0.1", Hostnames: []string{"database"}}},
		ShareProcessNamespace: new(true),
		SecurityContext:       &corev1.PodSecurityContext{RunAsGroup: new(int64(0))},
		SchedulerName:         corev1.DefaultSchedulerName,
		HostNetwork:           true,
	}
	if n.OnCluster() { // containerd wants a user with the group
		want.SecurityContext.RunAsUser = new(int64(0))
	}
	toleration := corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpEqual, Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	n.Deploy("web", func(s *v1.Service) {
		spec := &s.Spec.Template.Spec
		containers := spec.Containers
		want.DeepCopyInto(&spec.PodSpec)
		spec.Containers = containers
		spec.Tolerations = []corev1.Toleration{toleration}
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	n.MustFetch(t, n.URL("web", "/"))
	pod := n.AwaitReadyPods("web", 1)[0].Spec
	if pod.Priority == nil || *pod.Priority != high.Value {
		t.Errorf("the pod has priority %v", pod.Priority)
	}
	found := false
	for _, have := range pod.Tolerations { // Kubernetes adds two
		found = found || have == toleration
	}
	if !found {
		t.Errorf("the pod has tolerations %v", pod.Tolerations)
	}
	have := corev1.PodSpec{
		PriorityClassName: pod.PriorityClassName, RuntimeClassName: pod.RuntimeClassName, NodeSelector: pod.NodeSelector, Affinity: pod.Affinity,
		TopologySpreadConstraints: pod.TopologySpreadConstraints, DNSPolicy: pod.DNSPolicy, DNSConfig: pod.DNSConfig, HostAliases: pod.HostAliases,
		ShareProcessNamespace: pod.ShareProcessNamespace, SecurityContext: pod.SecurityContext, SchedulerName: pod.SchedulerName, HostNetwork: pod.HostNetwork,
	}
	if !equality.Semantic.DeepEqual(have, want) {
		is, _ := json.Marshal(have)
		should, _ := json.Marshal(want)
		t.Errorf("the pod has\n%s\nand should have\n%s", is, should)
	}
}

// TestPaused: nothing is done for a Service with the annotation, which says so, until it is taken away.
func TestPaused(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("web", says("one"))
	n.Change("web", func(s *v1.Service) {
		says("two")(s)
		s.Annotations[serving.PausedAnnotation] = "true"
	})
	n.AwaitService("web", func(s *v1.Service) error {
		if c := s.Status.Conditions.Get(v1.ConditionPaused); !c.IsTrue() || !s.Status.Conditions.Get(v1.ConditionReady).IsTrue() || s.Status.ObservedGeneration != 1 {
			return fmt.Errorf("generation %d is observed: %s", s.Status.ObservedGeneration, platform.Describe(s.Status.Conditions))
		}
		return nil
	})
	if a := n.MustFetch(t, n.URL("web", "/")); a.Body != "web-00001 one\n" {
		t.Errorf("paused it answers %s", a)
	}
	n.Change("web", func(s *v1.Service) { delete(s.Annotations, serving.PausedAnnotation) })
	s := n.AwaitReady("web")
	if a := n.MustFetch(t, n.URL("web", "/")); a.Body != "web-00002 two\n" || s.Status.Conditions.Get(v1.ConditionPaused) != nil {
		t.Errorf("then it answers %s: %s", a, platform.Describe(s.Status.Conditions))
	}
}

// TestActiveSaysWhy: the informational condition of a Revision at zero, and back.
func TestActiveSaysWhy(t *testing.T) {
	n := begin(t)
	keep := func(pods string) func(*v1.Service) {
		return func(s *v1.Service) { s.Annotations[serving.MinScaleAnnotation] = pods }
	}
	n.Deploy("web", func(s *v1.Service) { s.Annotations = map[string]string{serving.MinScaleAnnotation: "1"} })
	is := func(status corev1.ConditionStatus, reason string) {
		t.Helper()
		awaitRevision(n, "web-00001", func(r *v1.Revision) error {
			c := r.Status.Conditions.Get(v1.RevisionActive)
			if c == nil || c.Status != status || c.Reason != reason || !r.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
				return fmt.Errorf("Active should be %s %s: %s", status, reason, platform.Describe(r.Status.Conditions))
			}
			return nil
		})
	}
	is(corev1.ConditionTrue, "")
	n.Change("web", keep("0"))
	is(corev1.ConditionFalse, v1.ReasonNoTraffic)
	n.Change("web", keep("1"))
	is(corev1.ConditionTrue, "")
}

// TestOthersObjectsAreLeftAlone: an object of a user's that has the name of one that Ebb makes stays as it is, the
// Service says so, and it is enough to take it out of the way.
func TestOthersObjectsAreLeftAlone(t *testing.T) {
	n := begin(t)
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "web"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}}
	create(n, theirs)
	create(n, n.Service("web", says("one")))
	n.AwaitService("web", func(s *v1.Service) error {
		c := s.Status.Conditions.Get(v1.ServiceRoutesReady)
		if !c.IsFalse() || c.Reason != v1.ReasonNotOwned || !strings.Contains(c.Message, `A core Service named "web" exists`) {
			return fmt.Errorf("conditions: %s", platform.Describe(s.Status.Conditions))
		}
		return nil
	})
	uid := theirs.UID
	if err := n.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil || theirs.UID != uid || theirs.Spec.ExternalName != "example.org" {
		t.Errorf("their Service is now %+v, %v", theirs.Spec, err)
	}
	if err := n.Delete(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	n.AwaitReady("web")
	if a, err := n.Fetch(t.Context(), platform.Internal, n.InternalURL("web", "/")); err != nil || a.Body != "web-00001 one\n" {
		t.Errorf("then it answers %s, %v", a, err)
	}
}

// TestSoftConcurrency: a limit of concurrency keeps the activator in the path, unless ebb.dev/concurrency gives exactness up.
func TestSoftConcurrency(t *testing.T) {
	n := begin(t)
	limited := func(soft bool) func(*v1.Service) {
		return func(s *v1.Service) {
			s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
			s.Spec.Template.Spec.ContainerConcurrency = new(int64(3))
			if soft {
				s.Spec.Template.Annotations[serving.ConcurrencyAnnotation] = serving.ConcurrencySoft
			}
		}
	}
	n.Deploy("exact", limited(false))
	n.Deploy("soft", limited(true))
	n.AwaitReadyPods("exact", 1)
	direct := func(a platform.Answer) error {
		switch {
		case a.Status != http.StatusOK:
			return errors.New(a.String())
		case !strings.Contains(a.Body, http.CanonicalHeaderKey(ir.RevisionHeader)): // which an activator takes away
			return errors.New("an activator was in the path")
		}
		return nil
	}
	n.AwaitAnswer(t, platform.External, n.URL("soft", "/headers"), func(a platform.Answer) bool { return direct(a) == nil })
	for range 20 {
		if direct(n.MustFetch(t, n.URL("exact", "/headers"))) == nil {
			t.Fatal("a pod with an exact limit was reached past the activator")
		}
	}
}
