package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestKubeletKilled: a kubelet that is killed and started again under load costs no request and no pod, and a call
// from zero while it is gone is answered.
func TestKubeletKilled(t *testing.T) {
	n := begin(t)
	n.Deploy("warm", kept("2"))
	n.DeployAtZero("cold", nil)
	before := uids(n.AwaitReadyPods("warm", 2))
	load, stop := under(t, n, "warm")
	more(t, load, 50)
	for range 3 {
		cold := make(chan error, 1)
		killed(t, "kubelet")
		go func() {
			a, err := n.Fetch(t.Context(), platform.External, n.URL("cold", "/"))
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("it answers %s", a)
			}
			cold <- err
		}()
		if err := <-cold; err != nil {
			t.Errorf("from zero: %v", err)
		}
		more(t, load, 50)
	}
	stop()
	if after := uids(n.AwaitReadyPods("warm", 2)); !slices.Equal(before, after) {
		t.Errorf("the pods were %v and are %v", before, after)
	}
}

// TestNodeDrained: `kubectl drain` of the only node under load. The pods go when their requests are answered; what
// comes meanwhile waits until the node takes pods again. No request fails.
func TestNodeDrained(t *testing.T) {
	n := begin(t)
	n.Deploy("web", kept("2"))
	before := n.AwaitReadyPods("web", 2)
	node := n.NodeName(t)
	t.Cleanup(func() {
		if _, errOut, err := n.Command(context.Background(), "", "kubectl", "uncordon", node); err != nil {
			t.Errorf("%v %s", err, errOut)
		}
	})
	load, stop := under(t, n, "web")
	more(t, load, 50)
	slowOne := begun(t, n, "web", 3*time.Second)
	kubectl(t, n, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector="+serving.ServiceLabel+"=web", "--timeout=80s")
	for _, p := range n.AwaitPods("web", func([]*corev1.Pod) error { return nil }) {
		if slices.ContainsFunc(before, func(b *corev1.Pod) bool { return b.UID == p.UID }) {
			t.Errorf("pod %s is still there after the drain", p.Name)
		}
	}
	kubectl(t, n, "uncordon", node)
	n.AwaitReadyPods("web", 2)
	more(t, load, 50)
	stop()
	if err := <-slowOne; err != nil {
		t.Errorf("the request that took long: %v", err)
	}
}

// TestPodsEndedByOthers: a pod that is deleted, and one that is evicted by the API, answer what they have and get
// nothing more; under load, no request fails.
func TestPodsEndedByOthers(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *platform.Namespace, *corev1.Pod){
		"deleted": func(t *testing.T, n *platform.Namespace, pod *corev1.Pod) {
			kubectl(t, n, "-n", n.In, "delete", "pod", pod.Name, "--wait=false")
		},
		"evicted": func(t *testing.T, n *platform.Namespace, pod *corev1.Pod) {
			err := n.Clientset(t).PolicyV1().Evictions(n.In).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: n.In}})
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
			n.Deploy("web", kept("1"))
			pod := n.AwaitReadyPods("web", 1)[0]
			answered := held(t, n, "web", 4*time.Second)
			load, stop := under(t, n, "web")
			end(t, n, pod)
			n.AwaitPods("web", func(pods []*corev1.Pod) error {
				if len(pods) != 1 || pods[0].UID == pod.UID || !platform.PodReady(pods[0]) {
					return fmt.Errorf("%d pods, the first is %s", len(pods), pods[0].Name)
				}
				return nil
			})
			more(t, load, 50)
			stop()
			if err := <-answered; err != nil {
				t.Errorf("the request that the pod had: %v", err)
			}
		})
	}
}

// TestEvictedByKubelet: the kubelet evicts a pod that fills its volume; Kubernetes makes another one, which serves.
func TestEvictedByKubelet(t *testing.T) {
	n := begin(t)
	limit := resource.MustParse("64Ki")
	n.Deploy("web", func(s *v1.Service) {
		kept("1")(s)
		spec := &s.Spec.Template.Spec
		spec.Volumes = []corev1.Volume{{Name: "small", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
		spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "small", MountPath: "/small"}}
	})
	pod := n.AwaitReadyPods("web", 1)[0]
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, n.PodURL(pod, "/file?name=/small/file"), strings.NewReader(strings.Repeat("0123456789abcdef", 32<<10)))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := platform.Call(http.DefaultClient, r); err != nil || a.Status != http.StatusOK {
		t.Fatalf("fill the volume: %s %v", a, err)
	}
	n.AwaitPods("web", func(pods []*corev1.Pod) error {
		ended, ready := false, false
		for _, p := range pods {
			// Its status does not say why: the program has ended well when it was told to.
			ended = ended || p.UID == pod.UID && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed)
			ready = ready || p.UID != pod.UID && platform.PodReady(p)
		}
		if !ended || !ready {
			return fmt.Errorf("the pod has ended %t, another one is ready %t", ended, ready)
		}
		return nil
	})
	platform.Until(t, "an event tells of the eviction", func() error {
		if out := kubectl(t, n, "-n", n.In, "get", "events", "--field-selector=reason=Evicted,involvedObject.name="+pod.Name, "-o", "name"); out == "" {
			return errors.New("there is none")
		}
		return nil
	})
	n.MustFetch(t, n.URL("web", "/"))
}

// terminated waits until the only container of a Service's only pod has ended and runs again, and returns how it ended.
func terminated(n *platform.Namespace, service string) (last corev1.ContainerStateTerminated) {
	n.Helper()
	n.AwaitPods(service, func(pods []*corev1.Pod) error {
		for _, p := range pods {
			for _, c := range p.Status.ContainerStatuses {
				if c.LastTerminationState.Terminated != nil && platform.PodReady(p) {
					last = *c.LastTerminationState.Terminated
					return nil
				}
			}
		}
		return fmt.Errorf("no container has been started again")
	})
	return last
}

// TestKilledForMemory: a container above its limit ends as OOMKilled, is started again and serves.
func TestKilledForMemory(t *testing.T) {
	n := begin(t)
	n.Deploy("web", func(s *v1.Service) {
		kept("1")(s)
		s.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	})
	pod := n.AwaitReadyPods("web", 1)[0]
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.PodURL(pod, "/hold?mi=200"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := platform.Call(http.DefaultClient, r); err == nil {
		t.Fatalf("the pod holds 200 Mi: %s", a)
	}
	if last := terminated(n, "web"); last.Reason != "OOMKilled" || last.ExitCode != 137 {
		t.Errorf("it ended with %s, exit code %d", last.Reason, last.ExitCode)
	}
	n.MustFetch(t, n.URL("web", "/"))
}

// TestExitCode: what the program ends with and says is in the pod, and it serves again.
func TestExitCode(t *testing.T) {
	n := begin(t)
	n.Deploy("web", kept("1"))
	pod := n.AwaitReadyPods("web", 1)[0]
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.PodURL(pod, "/crash?code=42"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := platform.Call(http.DefaultClient, r); err == nil {
		t.Fatalf("the pod lives: %s", a)
	}
	if last := terminated(n, "web"); last.ExitCode != 42 || !strings.Contains(last.Message, "told to crash with exit code 42") {
		t.Errorf("it ended with exit code %d and says %q", last.ExitCode, last.Message)
	}
	n.MustFetch(t, n.URL("web", "/"))
}

// TestThirtyPods: from none to thirty at once, all of which serve, and back to none.
func TestThirtyPods(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("many", nil)
	began := time.Now()
	kubectl(t, n, "-n", n.In, "annotate", "ksvc", "many", serving.MinScaleAnnotation+"=30")
	pods := n.AwaitReadyPods("many", 30)
	t.Logf("30 pods are Ready after %s", time.Since(began).Round(100*time.Millisecond))
	for _, p := range pods {
		n.FetchPod(p, "/")
	}
	n.MustFetch(t, n.URL("many", "/"))
	kubectl(t, n, "-n", n.In, "annotate", "ksvc", "many", serving.MinScaleAnnotation+"-")
	n.AwaitZero("many")
}

// TestVolumeOfTheCluster: what a Service writes to a PersistentVolume is there after it was at zero.
func TestVolumeOfTheCluster(t *testing.T) {
	n := begin(t)
	folder := t.TempDir()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: n.In}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: folder}},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		ClaimRef:                      &corev1.ObjectReference{Namespace: n.In, Name: "data"},
	}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: volume.Spec.AccessModes, StorageClassName: new(""), VolumeName: volume.Name, Resources: corev1.VolumeResourceRequirements{Requests: size},
	}}
	if err := n.Create(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Delete(context.Background(), volume); err != nil {
			t.Error(err)
		}
	})
	if err := n.Create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	n.Deploy("keeper", func(s *v1.Service) {
		spec := &s.Spec.Template.Spec
		spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(0))} // the folder is root's
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, n.URL("keeper", "/file?name=/data/file"), strings.NewReader("kept"))
	if err != nil {
		t.Fatal(err)
	}
	c := n.Client(platform.External)
	defer c.CloseIdleConnections()
	if a, err := platform.Call(c, r); err != nil || a.Status != http.StatusOK {
		t.Fatalf("write: %s %v", a, err)
	}
	n.AwaitZero("keeper")
	if a := n.MustFetch(t, n.URL("keeper", "/file?name=/data/file")); a.Body != "kept" {
		t.Errorf("from zero: %s", a)
	}
}
