package node_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebb.dev/ebb/local/node"
	"ebb.dev/ebb/local/storage"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// startControllers starts those of Kubernetes that bind claims to volumes.
func (c *cluster) startControllers() {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "kubeconfig")
	config := api.Config{
		Clusters:  map[string]*api.Cluster{"t": {Server: c.cfg.Host, CertificateAuthority: c.pki + "/ca.crt"}},
		AuthInfos: map[string]*api.AuthInfo{"t": {ClientCertificate: c.pki + "/admin.crt", ClientKey: c.pki + "/admin.key"}},
		Contexts:  map[string]*api.Context{"t": {Cluster: "t", AuthInfo: "t"}}, CurrentContext: "t",
	}
	if err := clientcmd.WriteToFile(config, file); err != nil {
		c.t.Fatal(err)
	}
	c.start(filepath.Dir(file), "kube-controller-manager", "--kubeconfig="+file, "--authentication-kubeconfig="+file, "--authorization-kubeconfig="+file, "--secure-port=0", "--leader-elect=false",
		"--controllers=persistentvolume-binder-controller,persistentvolumeclaim-protection-controller,persistentvolume-protection-controller,ephemeral-volume-controller,garbage-collector-controller")
}

func (c *cluster) class(name string, change func(*storagev1.StorageClass)) {
	c.t.Helper()
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: storage.Provisioner, VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)}
	if change != nil {
		change(class)
	}
	if _, err := c.client.StorageV1().StorageClasses().Create(c.t.Context(), class, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// claim makes one of the default class; change may alter it.
func (c *cluster) claim(name string, change func(*v1.PersistentVolumeClaimSpec)) {
	c.t.Helper()
	claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: claimSpec()}
	if change != nil {
		change(&claim.Spec)
	}
	if _, err := c.client.CoreV1().PersistentVolumeClaims("default").Create(c.t.Context(), claim, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func claimSpec() v1.PersistentVolumeClaimSpec {
	return v1.PersistentVolumeClaimSpec{
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
		Resources:   v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Mi")}},
	}
}

func (c *cluster) deleteClaim(name string) {
	c.t.Helper()
	if err := c.client.CoreV1().PersistentVolumeClaims("default").Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// volumeOf waits until a claim is bound and gives its volume.
func (c *cluster) volumeOf(claim string) (pv *v1.PersistentVolume) {
	c.t.Helper()
	c.until("claim "+claim+" bound", func() bool {
		o, err := c.client.CoreV1().PersistentVolumeClaims("default").Get(c.t.Context(), claim, metav1.GetOptions{})
		if err != nil || o.Status.Phase != v1.ClaimBound {
			return false
		}
		pv, err = c.client.CoreV1().PersistentVolumes().Get(c.t.Context(), o.Spec.VolumeName, metav1.GetOptions{})
		return err == nil
	})
	return pv
}

func (c *cluster) noVolume(pv *v1.PersistentVolume) {
	c.t.Helper()
	c.until("volume "+pv.Name+" gone", func() bool {
		_, err := c.client.CoreV1().PersistentVolumes().Get(c.t.Context(), pv.Name, metav1.GetOptions{})
		return err != nil
	})
}

func there(path string) bool { _, err := os.Stat(path); return err == nil }

// mountsClaim has the pod's container mount a claim at /data.
func mountsClaim(claim string, more ...v1.VolumeMount) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].VolumeMounts = append([]v1.VolumeMount{{Name: "data", MountPath: "/data"}}, more...)
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	}
}

// waits until the pod says as a scheduler why it is not bound.
func (c *cluster) waits(pod, words string) {
	c.t.Helper()
	said := ""
	c.until(fmt.Sprintf("pod %s says %q", pod, words), func() bool {
		p := c.get(pod)
		if p == nil || p.Spec.NodeName != "" || p.Status.Phase != v1.PodPending {
			return false
		}
		for _, k := range p.Status.Conditions {
			if k.Type == v1.PodScheduled && k.Message != said {
				said = k.Message
				c.t.Logf("%s %s: %s", pod, k.Reason, said)
			}
			if k.Type == v1.PodScheduled && k.Status == v1.ConditionFalse && k.Reason == "Unschedulable" && strings.Contains(k.Message, words) {
				return true
			}
		}
		return false
	})
}

func testClaims(t *testing.T, c *cluster) {
	c.startControllers()
	testClaimsLife(t, c)
	testClaimsThatCannot(t, c)
	testClaimKinds(t, c)
}

func testClaimsLife(t *testing.T, c *cluster) {
	// A claim, its class and its volume come one after the other, and the pod says what lacks.
	c.pod("first", mountsClaim("data", v1.VolumeMount{Name: "data", MountPath: "/sub", SubPath: "a/b"}))
	c.waits("first", `persistentvolumeclaim "data" not found: create it in namespace default`)
	c.claim("data", func(s *v1.PersistentVolumeClaimSpec) { s.StorageClassName = ptr.To("standard") })
	c.waits("first", `persistentvolumeclaim "data" is not bound: there is no StorageClass "standard": create it`)
	c.class("standard", func(s *storagev1.StorageClass) {
		s.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	})
	p := c.when("first", "ready", ready)
	for _, k := range p.Status.Conditions {
		if k.Type == v1.PodScheduled && (k.Status != v1.ConditionTrue || k.Reason != "" || k.Message != "") {
			t.Errorf("bound: %+v", k)
		}
	}
	pv := c.volumeOf("data")
	folder := filepath.Join(c.cfg.Data, "volumes", pv.Name)
	if pv.Spec.Local == nil || pv.Spec.Local.Path != folder || pv.Spec.PersistentVolumeReclaimPolicy != v1.PersistentVolumeReclaimDelete || pv.Spec.Capacity.Storage().String() != "10Mi" {
		t.Errorf("%+v", pv.Spec)
	}
	for file, text := range map[string]string{"/data/x": "one", "/sub/y": "two"} {
		if got, code := c.in("first", "write", file, text); code != 0 {
			t.Fatalf("write %s: %s", file, got)
		}
	}
	reads := func(pod, file, want string) {
		t.Helper()
		if got, _ := c.in(pod, "cat", file); got != want {
			t.Errorf("%s of pod %s holds %q, want %q", file, pod, got, want)
		}
	}
	// A restarted container, a second pod, read-only, and one more after both have gone and
	// the node was killed.
	_, _ = http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation] + "/die")
	c.when("first", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool { return s.RestartCount == 1 && s.Ready })
	reads("first", "/data/x", "one")
	c.pod("second", func(p *v1.Pod) {
		mountsClaim("data")(p)
		p.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	})
	c.when("second", "ready", ready)
	reads("second", "/data/a/b/y", "two")
	if _, code := c.in("second", "write", "/data/z", "no"); code == 0 {
		t.Error("a read-only claim was written to")
	}
	c.delete("second")
	c.killNode()
	c.startNode()
	c.until("the pod of before is spoken to", func() bool { got, _ := c.in("first", "cat", "/data/x"); return got == "one" })
	c.delete("first")
	c.pod("third", mountsClaim("data"))
	c.when("third", "ready", ready)
	reads("third", "/data/x", "one")

	// A claim in use stays; then it goes with its volume and the folder, whatever is in it.
	c.deleteClaim("data")
	c.pod("late", mountsClaim("data"))
	c.waits("late", `persistentvolumeclaim "data" is being deleted`)
	c.delete("late")
	reads("third", "/data/x", "one")
	if err := os.Chmod(filepath.Join(folder, "a"), 0o500); err != nil { //nolint:gosec // a folder
		t.Fatal(err)
	}
	c.delete("third")
	c.noVolume(pv)
	if there(folder) {
		t.Errorf("%s is still there", folder)
	}
}

func testClaimsThatCannot(t *testing.T, c *cluster) {
	c.class("odd", func(s *storagev1.StorageClass) { s.Parameters = map[string]string{"type": "ssd"} })
	c.class("theirs", func(s *storagev1.StorageClass) { s.Provisioner = "example.com/disks" })
	c.class("by-hand", func(s *storagev1.StorageClass) { s.Provisioner = "kubernetes.io/no-provisioner" })
	for name, claim := range map[string]struct {
		change func(*v1.PersistentVolumeClaimSpec)
		words  string
	}{
		"classless": {func(s *v1.PersistentVolumeClaimSpec) { s.StorageClassName = ptr.To("") }, "is not bound: it names no StorageClass, and no PersistentVolume without one fits"},
		"params":    {func(s *v1.PersistentVolumeClaimSpec) { s.StorageClassName = ptr.To("odd") }, "ebb.dev/local has no parameters, and the class gives type"},
		"foreign":   {func(s *v1.PersistentVolumeClaimSpec) { s.StorageClassName = ptr.To("theirs") }, `StorageClass "theirs" is provisioned by example.com/disks, which has made no volume for it`},
		"handmade":  {func(s *v1.PersistentVolumeClaimSpec) { s.StorageClassName = ptr.To("by-hand") }, `no PersistentVolume of StorageClass "by-hand" fits it`},
		"block":     {func(s *v1.PersistentVolumeClaimSpec) { s.VolumeMode = ptr.To(v1.PersistentVolumeBlock) }, "volumeMode Block: this node has folders only"},
	} {
		c.claim(name, claim.change)
		if name != "block" { // the API server lets no pod mount it
			c.pod(name, mountsClaim(name))
		} else {
			c.pod(name, func(p *v1.Pod) {
				mountsClaim(name)(p)
				p.Spec.Containers[0].VolumeMounts = nil
				p.Spec.Containers[0].VolumeDevices = []v1.VolumeDevice{{Name: "data", DevicePath: "/dev/disk"}}
			})
		}
		c.waits(name, claim.words)
	}
	// A volume made by hand is taken, by a claim with a class and by one without.
	for claim, class := range map[string]string{"handmade": "by-hand", "classless": ""} {
		dir := filepath.Join(c.cfg.Data, claim)
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte("of "+claim), 0o644); err != nil {
			t.Fatal(err)
		}
		pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim}, Spec: v1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: claimSpec().AccessModes, Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}},
		}}
		if _, err := c.client.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.when(claim, "ready", ready)
		if got, _ := c.in(claim, "cat", "/data/x"); got != "of "+claim {
			t.Errorf("%s: %q", claim, got)
		}
	}
	for _, name := range []string{"classless", "params", "foreign", "handmade", "block"} {
		c.delete(name)
		c.deleteClaim(name)
	}
}

func testClaimKinds(t *testing.T, c *cluster) {
	c.class("kept", func(s *storagev1.StorageClass) {
		s.ReclaimPolicy, s.VolumeBindingMode = ptr.To(v1.PersistentVolumeReclaimRetain), ptr.To(storagev1.VolumeBindingImmediate)
	})

	// One pod at a time.
	c.claim("alone", func(s *v1.PersistentVolumeClaimSpec) {
		s.AccessModes, s.StorageClassName = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}, ptr.To("kept")
	})
	kept := c.volumeOf("alone") // before any pod
	c.pod("one", mountsClaim("alone"))
	c.when("one", "ready", ready)
	c.killNode()
	c.pod("two", mountsClaim("alone"))
	c.startNode() // which has to find out who has it
	c.waits("two", `persistentvolumeclaim "alone" has access mode ReadWriteOncePod and pod default/one has it`)
	c.delete("one")
	c.when("two", "ready", ready)
	c.delete("two")

	// Retained: the folder and the object stay, and the folder when the object goes.
	c.deleteClaim("alone")
	c.until("volume released", func() bool {
		pv, err := c.client.CoreV1().PersistentVolumes().Get(t.Context(), kept.Name, metav1.GetOptions{})
		return err == nil && pv.Status.Phase == v1.VolumeReleased
	})
	if err := c.client.CoreV1().PersistentVolumes().Delete(t.Context(), kept.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.noVolume(kept)
	if !there(kept.Spec.Local.Path) {
		t.Error("a retained folder has gone")
	}

	// A claim of the pod's own, with the pod's group.
	group := int64(4321)
	c.pod("own", func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
		spec := claimSpec()
		spec.StorageClassName = ptr.To("kept")
		p.Spec.Volumes = []v1.Volume{{Name: "scratch", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{VolumeClaimTemplate: &v1.PersistentVolumeClaimTemplate{Spec: spec}}}}}
	})
	c.when("own", "ready", ready)
	if got, code := c.in("own", "write", "/scratch/x", "x"); code != 0 {
		t.Errorf("write: %s", got)
	}
	want := "-rw-r--r-- 0 4321"
	if n, err := c.client.CoreV1().Nodes().Get(t.Context(), "test", metav1.GetOptions{}); err != nil || strings.HasPrefix(n.Annotations["ebb.dev/isolation"], "user") {
		want = "-rw-r--r-- 0 0"
	}
	if got, _ := c.in("own", "stat", "/scratch/x"); got != want {
		t.Errorf("a file of a pod with a group: %q, want %q", got, want)
	}
	c.volumeOf("own-scratch")
	c.delete("own")
	c.until("the pod's own claim gone", func() bool {
		_, err := c.client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "own-scratch", metav1.GetOptions{})
		return err != nil
	})
	if err := c.client.StorageV1().StorageClasses().Delete(t.Context(), "kept", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// The files of an image, read-only.
func testImageVolumes(t *testing.T, c *cluster) {
	mounts := func(image string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "files", MountPath: "/files"}, {Name: "files", MountPath: "/tools", SubPath: "bin"}}
			p.Spec.Volumes = []v1.Volume{{Name: "files", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: image}}}}
		}
	}
	c.pod("files", mounts(c.registry+"/program:v1"))
	c.when("files", "ready", ready)
	for _, file := range []string{"/files/program", "/tools/tar"} {
		if got, code := c.in("files", "stat", file); code != 0 {
			t.Errorf("%s: %s", file, got)
		}
	}
	if _, code := c.in("files", "write", "/files/x", "x"); code == 0 {
		t.Error("an image was written to")
	}
	c.delete("files")
	c.pod("nofiles", mounts(c.registry+"/nowhere:v1"))
	c.when("nofiles", "says so", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		w := s.State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `volume "files": pull image`) && strings.Contains(w.Message, "NAME_UNKNOWN")
	})
	c.delete("nofiles")
}
