package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// noVolumes says why pods can have no volume on this machine; "" where they can.
func noVolumes(t *testing.T, n *platform.Namespace) string {
	t.Helper()
	var node corev1.Node
	if err := n.WithWatch.Get(t.Context(), client.ObjectKey{Name: n.NodeName(t)}, &node); err != nil {
		t.Fatal(err)
	}
	if node.Annotations["ebb.dev/isolation"] != "none" {
		return ""
	}
	return "pods are plain processes on this machine, which can have no volumes: " + node.Annotations["ebb.dev/isolation-reason"]
}

// claim makes one as people write it: of the default class.
func claim(t *testing.T, n *platform.Namespace, name string) *corev1.PersistentVolumeClaim {
	t.Helper()
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	if err := n.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// mounts has a Service's container mount a claim at /data.
func mounts(claim string) func(*v1.Service) {
	return func(s *v1.Service) {
		spec := &s.Spec.Template.Spec
		spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	}
}

// keep has a Service write a file to its claim.
func keep(t *testing.T, n *platform.Namespace, service, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, n.URL(service, "/file?name=/data/file"), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := n.Client(platform.External)
	defer c.CloseIdleConnections()
	if a, err := platform.Call(c, r); err != nil || a.Status != http.StatusOK {
		t.Fatalf("write to the claim of %s: %s %v", service, a, err)
	}
}

// TestClaim: what a Service writes to its claim is there after it was at zero, for its next
// Revision and for another Service, and goes with the claim.
func TestClaim(t *testing.T) {
	n := begin(t)
	n.Embedded(t, "it looks at the folders of the class standard")
	if why := noVolumes(t, n); why != "" {
		t.Skip(why)
	}
	data := claim(t, n, "data")
	n.Deploy("keeper", mounts("data"))
	keep(t, n, "keeper", "kept")
	n.AwaitZero("keeper")
	if a := n.MustFetch(t, n.URL("keeper", "/file?name=/data/file")); a.Body != "kept" {
		t.Errorf("from zero: %s", a)
	}
	n.Change("keeper", says("next"))
	n.AwaitReady("keeper")
	n.AwaitAnswer(t, platform.External, n.URL("keeper", "/file?name=/data/file"), func(a platform.Answer) bool { return a.Body == "kept" && a.Revision() == "keeper-00002" })
	n.Deploy("reader", mounts("data"))
	if a := n.MustFetch(t, n.URL("reader", "/file?name=/data/file")); a.Body != "kept" {
		t.Errorf("of another Service: %s", a)
	}

	if err := n.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(data), data); err != nil {
		t.Fatal(err)
	}
	volume := &corev1.PersistentVolume{}
	if err := n.WithWatch.Get(t.Context(), client.ObjectKey{Name: data.Spec.VolumeName}, volume); err != nil {
		t.Fatal(err)
	}
	if class := data.Spec.StorageClassName; class == nil || *class != "standard" {
		t.Errorf("the claim is of class %v", class)
	}
	if b, err := os.ReadFile(filepath.Join(volume.Spec.Local.Path, "file")); string(b) != "kept" {
		t.Errorf("on the machine: %q %v", b, err)
	}
	if err := n.Delete(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keeper", "reader"} {
		if err := n.Delete(t.Context(), &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := platform.Await(t.Context(), n.Platform, &corev1.PersistentVolumeList{}, func(all []*corev1.PersistentVolume) error {
		if len(all) > 0 {
			return fmt.Errorf("volume %s is %s", all[0].Name, all[0].Status.Phase)
		}
		return nil
	}, client.MatchingFields{"metadata.name": volume.Name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(volume.Spec.Local.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder after it: %v", err)
	}
}

// TestMissingClaim: the Service says which claim it waits for, and goes on when it is there.
func TestMissingClaim(t *testing.T) {
	n := begin(t)
	if why := noVolumes(t, n); why != "" {
		t.Skip(why)
	}
	if err := n.Create(t.Context(), n.Service("waits", mounts("nowhere"))); err != nil {
		t.Fatal(err)
	}
	s := n.AwaitService("waits", func(s *v1.Service) error {
		ready := s.Status.Conditions.Get(v1.ConditionReady)
		words := fmt.Sprintf("persistentvolumeclaim %q not found", "nowhere")
		if !n.OnCluster() { // whose scheduler says no more
			words += ": create it in namespace " + n.In
		}
		if ready == nil || !strings.Contains(ready.Message, words) {
			return fmt.Errorf("Ready does not say %q: %s", words, platform.Describe(s.Status.Conditions))
		}
		return nil
	})
	t.Log(platform.Describe(s.Status.Conditions))
	if n.OnCluster() {
		return // it has no class that makes volumes
	}
	claim(t, n, "nowhere")
	n.AwaitReady("waits")
	keep(t, n, "waits", "x")
}
