package faults

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/test/e2e/platform"
	"ebb.dev/ebb/test/e2e/steady"
	"ebb.dev/ebb/test/e2e/wire"
)

// fault is something that goes wrong while there is load on the ten.
type fault struct {
	name string
	// begin makes it; the function returned ends it and waits until what broke is whole again.
	begin func(t *testing.T, s *ten) (end func())
	on    string // the part or the service that it is about
	lasts bool   // for as long as the flag says, before its end
	posts bool   // POSTs to that service may fail: those that its pod had accepted
	away  bool   // the kube-apiserver does not answer while it lasts
	asks  bool   // begin asks the kube-apiserver
}

// everything is what a fault is about that spares no service.
const everything = "everything"

// may says whether a request may have failed by the fault. Of a gateway that is killed the own
// connections end, of a pod that is killed the POSTs that it had accepted; nothing else.
func (f fault) may(x steady.Failure) bool {
	return f.on == "gateway" || f.posts && x.Method == http.MethodPost && (f.on == everything || f.on == x.Service)
}

// killed is a part's end by SIGKILL.
func killed(part string) fault {
	return fault{name: part + " killed", on: part, away: part == "etcd" || part == "kube-apiserver", begin: func(t *testing.T, s *ten) func() {
		pid := s.Kill(t, part, syscall.SIGKILL)
		return func() { s.AwaitPart(t, part, pid) }
	}}
}

// stopped is a part that hangs: SIGSTOP, and SIGCONT at the end.
func stopped(part string) fault {
	return fault{name: part + " hangs", on: part, lasts: true, away: part == "kube-apiserver", begin: func(t *testing.T, s *ten) func() {
		pid := s.Kill(t, part, syscall.SIGSTOP)
		goOn := sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		t.Cleanup(goOn)
		return goOn
	}}
}

// repeated does something again and again until the fault's end.
func repeated(name, on string, pause time.Duration, do func(t *testing.T, s *ten), after func(t *testing.T, s *ten)) fault {
	return fault{name: name, on: on, lasts: true, away: on == "kube-apiserver", begin: func(t *testing.T, s *ten) func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan struct{})
		go func() {
			defer close(done)
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for ctx.Err() == nil {
				do(t, s)
				select {
				case <-ctx.Done():
				case <-ticker.C:
				}
			}
		}()
		end := sync.OnceFunc(func() { cancel(); <-done; after(t, s) })
		t.Cleanup(end)
		return end
	}}
}

// inSlices lets a process run for a moment and stops it for longer, in turn.
func inSlices(name, on string, which func(t *testing.T, s *ten) int) fault {
	return fault{name: name, on: on, lasts: true, away: on == "etcd", asks: on != "etcd", begin: func(t *testing.T, s *ten) func() {
		pid, stop := which(t, s), false
		return repeated(name, on, 200*time.Millisecond, func(*testing.T, *ten) {
			if stop = !stop; stop {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			} else {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}, func(*testing.T, *ten) { _ = syscall.Kill(pid, syscall.SIGCONT) }).begin(t, s)
	}}
}

func slow(name, on string, of func(*platform.Wires) *wire.Wire, d time.Duration) fault {
	return fault{name: name, on: on, lasts: true, begin: func(t *testing.T, s *ten) func() {
		of(s.Wires).Delay(d)
		end := func() { of(s.Wires).Delay(0) }
		t.Cleanup(end)
		return end
	}}
}

func nothing(*testing.T, *ten) {}

// ofParts are the faults of the platform's own parts and of the connections between them.
func ofParts() []fault {
	return []fault{
		killed("controller"),
		killed("activator"),
		{name: "the gateway's connection to the controller cut", on: "control", begin: func(t *testing.T, s *ten) func() {
			if n := s.Wires.Control.Cut(); n == 0 {
				t.Error("the gateway has no connection to the controller")
			}
			return func() {}
		}},
		stopped("kube-apiserver"),
		killed("kube-apiserver"),
		slow("etcd answers 200 ms late", "etcd", func(w *platform.Wires) *wire.Wire { return w.Etcd }, 100*time.Millisecond),
		inSlices("etcd runs only half of the time", "etcd", func(_ *testing.T, s *ten) int { return s.Running().Parts["etcd"] }),
		killed("etcd"),
		repeated("all connections to the kube-apiserver cut every second", "kube-apiserver", time.Second, func(_ *testing.T, s *ten) { s.Wires.API.Cut() }, nothing),
		stopped("controller"),
		stopped("activator"),
		killed("node"),
		killed("kube-controller-manager"),
		killed("registry"),
		killed("gateway"),
	}
}

// ofPods are the faults of pods.
func ofPods() []fault {
	deleted := func(ctx context.Context, s *ten, pod *corev1.Pod) error { return s.Delete(ctx, pod) }
	byForce := func(ctx context.Context, s *ten, pod *corev1.Pod) error {
		return s.Delete(ctx, pod, client.GracePeriodSeconds(0))
	}
	evicted := func(ctx context.Context, s *ten, pod *corev1.Pod) error {
		return s.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}})
	}
	return []fault{
		{name: "the only pod killed", on: "one", asks: true, posts: true, begin: killPod("one")},
		{name: "one of three pods killed", on: "three", asks: true, posts: true, begin: killPod("three")},
		{name: "a pod deleted", on: "three", asks: true, begin: without("three", deleted)},
		{name: "the only pod deleted", on: "one", asks: true, begin: without("one", deleted)},
		{name: "a pod deleted by force", on: "three", asks: true, posts: true, begin: without("three", byForce)},
		{name: "the only pod deleted by force", on: "one", asks: true, posts: true, begin: without("one", byForce)},
		{name: "a pod evicted", on: "three", asks: true, begin: without("three", evicted)},
		{name: "a pod hangs", on: "three", asks: true, begin: hang},
		inSlices("a pod answers slowly", "three", func(t *testing.T, s *ten) int { return s.Processes(t, s.pods("three", 3, 3)[2]).Program }),
		{name: "a pod refuses connections", on: "three", asks: true, lasts: true, begin: told("three", "refuse")},
		{name: "the only pod refuses connections", on: "one", asks: true, lasts: true, begin: told("one", "refuse")},
		{name: "a pod resets connections", on: "three", asks: true, lasts: true, posts: true, begin: told("three", "reset")},
		{name: "all pods gone at once", on: everything, asks: true, posts: true, begin: allGone},
	}
}

// killPod ends the program of a service's first pod.
func killPod(service string) func(*testing.T, *ten) func() {
	return func(t *testing.T, s *ten) func() {
		pod := s.pods(service, 1, 3)[0]
		s.SignalPod(t, pod, syscall.SIGKILL)
		return func() {
			s.AwaitPods(service, func(pods []*corev1.Pod) error {
				for _, p := range pods {
					if p.Name == pod.Name && (restarts(p) == restarts(pod) || !platform.PodReady(p)) {
						return fmt.Errorf("%s has not been started again", p.Name)
					}
				}
				return nil
			})
			// The next restart would wait for seconds: a pod that has not ended before takes its place.
			if err := client.IgnoreNotFound(s.Delete(t.Context(), pod)); err != nil {
				t.Error(err)
			}
			s.replaced(service, pod)
		}
	}
}

func restarts(p *corev1.Pod) int32 {
	if len(p.Status.ContainerStatuses) == 0 {
		return 0
	}
	return p.Status.ContainerStatuses[0].RestartCount
}

// replaced waits until a pod is gone and its service has as many as before.
func (s *ten) replaced(service string, pod *corev1.Pod) {
	s.Helper()
	n := map[string]int{"one": 1, "two": 2, "three": 3}[service]
	s.AwaitPods(service, func(pods []*corev1.Pod) error {
		for _, p := range pods {
			if p.UID == pod.UID {
				return fmt.Errorf("%s is still there", p.Name)
			}
		}
		return atLeast(n)(pods)
	})
}

// without takes a service's first pod away in a way given.
func without(service string, remove func(context.Context, *ten, *corev1.Pod) error) func(*testing.T, *ten) func() {
	return func(t *testing.T, s *ten) func() {
		pod := s.pods(service, 1, 3)[0]
		if err := remove(t.Context(), s, pod); err != nil {
			t.Errorf("remove pod %s: %v", pod.Name, err)
			return func() {}
		}
		return func() { s.replaced(service, pod) }
	}
}

// hang stops a pod's process until Kubernetes calls it unready, and longer.
func hang(t *testing.T, s *ten) func() {
	pod := s.pods("three", 3, 3)[1]
	pid := s.Processes(t, pod).Program
	s.SignalPod(t, pod, syscall.SIGSTOP)
	goOn := sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	t.Cleanup(goOn)
	s.AwaitPods("three", func(pods []*corev1.Pod) error {
		for _, p := range pods {
			if p.UID == pod.UID && platform.PodReady(p) {
				return fmt.Errorf("%s is ready", p.Name)
			}
		}
		return nil
	})
	s.tell("pod %s hangs and is unready", pod.Name)
	return func() { goOn(); s.pods("three", 3, 3) }
}

// told asks a pod to refuse or reset connections.
func told(service, mode string) func(*testing.T, *ten) func() {
	return func(t *testing.T, s *ten) func() {
		pod := s.pods(service, 1, 3)[0]
		anew := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a connection for each request
		ask := func(method, path string) error {
			r, err := http.NewRequestWithContext(t.Context(), method, s.PodURL(pod, path), nil)
			if err != nil {
				return err
			}
			answer, err := platform.Call(anew, r)
			if err == nil && answer.Status != http.StatusOK {
				err = fmt.Errorf("%s answers %v", path, answer)
			}
			return err
		}
		if err := ask(http.MethodPost, "/connections?mode="+mode+"&ms=600000"); err != nil {
			t.Error(err)
		}
		until(t, "the pod takes no connection", func() error {
			if ask(http.MethodGet, "/counters") == nil {
				return fmt.Errorf("it does")
			}
			return nil
		})
		return func() {
			s.SignalPod(t, pod, syscall.SIGUSR1) // it is well again
			until(t, "the pod serves again", func() error { return ask(http.MethodGet, "/counters") })
			s.pods(service, 1, 3)
		}
	}
}

// allGone is what the loss of a machine does to its pods: the node is away, each process is gone, and each pod. Then
// the machine is back.
func allGone(t *testing.T, s *ten) func() {
	s.enough(t) // what comes now takes away the load itself, for a while
	s.gone = true
	var pods corev1.PodList
	if err := s.List(t.Context(), &pods, client.InNamespace(s.In)); err != nil {
		t.Error(err)
		return func() {}
	}
	node := s.Kill(t, "node", syscall.SIGSTOP)
	for i := range pods.Items {
		if p := &pods.Items[i]; platform.PodReady(p) {
			both := s.Processes(t, p)
			_ = syscall.Kill(both.Shim, syscall.SIGKILL)
			_ = syscall.Kill(both.Program, syscall.SIGKILL)
		}
	}
	for i := range pods.Items {
		if err := s.Delete(t.Context(), &pods.Items[i], client.GracePeriodSeconds(0)); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	}
	_ = syscall.Kill(node, syscall.SIGKILL)
	return func() {
		s.AwaitPart(t, "node", node)
		for i := range pods.Items {
			for _, service := range []string{"one", "two", "three"} {
				s.replaced(service, &pods.Items[i])
			}
		}
	}
}
