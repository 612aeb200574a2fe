package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// Namespace is one test's part of a platform. Its methods fail the test when the platform
// does not do what they ask.
type Namespace struct {
	*Platform
	testing.TB
	In string // its name
}

// Namespace makes one named after the test and deletes it when the test ends. A test that
// has failed then shows what is in it and the last lines of the parts' logs.
func (p *Platform) Namespace(t testing.TB) *Namespace {
	t.Helper()
	words := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "-")
	n := &Namespace{p, t, strings.Trim(words[:min(len(words), 30)], "-") + "-" + rand.String(4)}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.In}}
	if err := p.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			n.show()
		}
		if err := p.Delete(context.Background(), object); err != nil {
			t.Errorf("delete namespace %s: %v", n.In, err)
		}
	})
	return n
}

// show logs what helps to see why a test failed.
func (n *Namespace) show() {
	kinds := []string{"ksvc,config,rt,rev,dm,deployments,pods", "events"}
	if n.events {
		kinds = append(kinds, "brokers,triggers,channels,subscriptions.messaging.knative.dev,sequences,parallels")
	}
	for _, kinds := range kinds {
		out, errOut, _ := n.Command(context.Background(), "", "kubectl", "get", kinds, "-n", n.In, "-o", "wide")
		n.Log("\n" + out + errOut)
	}
	parts := []string{"controller", "activator", "gateway", "node"}
	if n.events {
		parts = append(parts, "eventing", "nats")
	}
	for _, part := range parts {
		n.Logf("%s:\n%s", part, n.logOf(part, n.In, 25))
	}
}

// Service is a Service in the namespace, not yet created, that runs test/app and goes to
// zero soon. change may be nil.
func (n *Namespace) Service(name string, change func(*v1.Service)) *v1.Service {
	n.Helper()
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: name}}
	s.Spec.Template.Annotations = map[string]string{serving.WindowAnnotation: "6s"}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: n.Image(n, App)}}
	if change != nil {
		change(s)
	}
	return s
}

// Deploy creates a Service as Service makes it and waits until it is Ready.
func (n *Namespace) Deploy(name string, change func(*v1.Service)) *v1.Service {
	n.Helper()
	s := n.Service(name, change)
	if err := n.Create(n.Context(), s); err != nil {
		n.Fatalf("create service %s: %v", name, err)
	}
	return n.AwaitReady(name)
}

// DeployAtZero is Deploy of a Service that has had no pod yet.
func (n *Namespace) DeployAtZero(name string, change func(*v1.Service)) *v1.Service {
	n.Helper()
	return n.Deploy(name, func(s *v1.Service) {
		s.Spec.Template.Annotations[serving.InitialScaleAnnotation] = "0"
		if change != nil {
			change(s)
		}
	})
}

// Change writes a change of a Service and returns it as written.
func (n *Namespace) Change(name string, change func(*v1.Service)) *v1.Service {
	n.Helper()
	s := &v1.Service{}
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := n.WithWatch.Get(n.Context(), client.ObjectKey{Namespace: n.In, Name: name}, s); err != nil {
			return err
		}
		change(s)
		return n.Update(n.Context(), s)
	})
	if err != nil {
		n.Fatalf("change service %s: %v", name, err)
	}
	return s
}

// AwaitService waits until holds returns nil for the Service.
func (n *Namespace) AwaitService(name string, holds func(*v1.Service) error) *v1.Service {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), Deadline)
	defer cancel()
	all, err := Await(ctx, n.Platform, &v1.ServiceList{}, func(all []*v1.Service) error {
		if len(all) == 0 {
			return errors.New("it does not exist")
		}
		return holds(all[0])
	}, client.InNamespace(n.In), client.MatchingFields{"metadata.name": name})
	if err != nil {
		n.Fatalf("service %s/%s: %v", n.In, name, err)
	}
	return all[0]
}

// AwaitReady waits until the Service is Ready as it is now written.
func (n *Namespace) AwaitReady(name string) *v1.Service {
	n.Helper()
	return n.AwaitService(name, func(s *v1.Service) error { return Ready(s.Generation, s.Status.Status) })
}

// Ready says why an object of the generation given is not Ready; nil when it is.
func Ready(generation int64, s v1.Status) error {
	if s.ObservedGeneration != generation {
		return fmt.Errorf("generation %d is not observed (%d is)", generation, s.ObservedGeneration)
	}
	if !s.Conditions.Get(v1.ConditionReady).IsTrue() {
		return fmt.Errorf("not Ready: %s", Describe(s.Conditions))
	}
	return nil
}

// Describe writes conditions in a line.
func Describe(conditions v1.Conditions) string {
	var words []string
	for _, c := range conditions {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s=%s %s %s", c.Type, c.Status, c.Reason, c.Message)))
	}
	return strings.Join(words, "; ")
}

// AwaitPods waits until holds returns nil for the pods of a Service, the terminating ones
// included.
func (n *Namespace) AwaitPods(service string, holds func([]*corev1.Pod) error) []*corev1.Pod {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), Deadline)
	defer cancel()
	all, err := Await(ctx, n.Platform, &corev1.PodList{}, holds, client.InNamespace(n.In), client.MatchingLabels{serving.ServiceLabel: service})
	if err != nil {
		n.Fatalf("pods of service %s/%s: %v", n.In, service, err)
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// AwaitZero waits until the Service has no pod.
func (n *Namespace) AwaitZero(service string) {
	n.Helper()
	n.AwaitPods(service, func(pods []*corev1.Pod) error {
		if len(pods) > 0 {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
}

// AwaitReadyPods waits until the Service has exactly count pods, all ready.
func (n *Namespace) AwaitReadyPods(service string, count int) []*corev1.Pod {
	n.Helper()
	return n.AwaitPods(service, func(pods []*corev1.Pod) error {
		ready := 0
		for _, p := range pods {
			if p.DeletionTimestamp == nil && PodReady(p) {
				ready++
			}
		}
		if ready != count || len(pods) != count {
			return fmt.Errorf("%d of %d are ready, want %d", ready, len(pods), count)
		}
		return nil
	})
}

// PodReady says whether Kubernetes calls a pod ready.
func PodReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// FetchPod calls a path of a pod, past the gateway, for an answer with status 200.
func (n *Namespace) FetchPod(p *corev1.Pod, path string) Answer {
	n.Helper()
	url := n.PodURL(p, path)
	r, err := http.NewRequestWithContext(n.Context(), http.MethodGet, url, nil)
	if err != nil {
		n.Fatal(err)
	}
	answer, err := Call(http.DefaultClient, r)
	if err != nil || answer.Status != http.StatusOK {
		n.Fatalf("GET %s: %s %v", url, answer, err)
	}
	return answer
}

// PodURL is that of a path of a pod, past the gateway.
func (n *Namespace) PodURL(p *corev1.Pod, path string) string {
	port := p.Annotations[serving.PortAnnotation] // of the embedded default
	for _, c := range p.Spec.Containers {
		if port == "" && len(c.Ports) > 0 {
			port = fmt.Sprint(c.Ports[0].ContainerPort)
		}
	}
	return "http://" + net.JoinHostPort(p.Status.PodIP, port) + path
}

// URL of a path of a Service, or of a tag of it as TAG-NAME, at its external host.
func (n *Namespace) URL(service, path string) string {
	return (&url.URL{Scheme: "http", Host: service + "." + n.In + ".localhost"}).String() + path
}

// InternalURL of a path of a Service at its in-cluster host.
func (n *Namespace) InternalURL(service, path string) string {
	return "http://" + service + "." + n.In + ".svc.cluster.local" + path
}
