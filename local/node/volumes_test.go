package node_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"ebb.dev/ebb/local/node"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// terminal makes one on the machine.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (c *cluster) configMap(name string, data map[string]string) {
	c.t.Helper()
	m := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
	api := c.client.CoreV1().ConfigMaps("default")
	if _, err := api.Update(c.t.Context(), m, metav1.UpdateOptions{}); err == nil {
		return
	}
	if _, err := api.Create(c.t.Context(), m, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func named(name string) v1.LocalObjectReference { return v1.LocalObjectReference{Name: name} }

func testVolumes(t *testing.T, c *cluster) {
	c.configMap("files", map[string]string{"a": "one", "b": "two"})
	if _, err := c.client.CoreV1().Secrets("default").Create(t.Context(), &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "hidden"}, StringData: map[string]string{"key": "secret"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.CoreV1().ServiceAccounts("default").Create(t.Context(), &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	yes, restricted, tenMinutes, group := true, int32(0o400), int64(600), int64(4321)
	c.pod("volumes", func(p *v1.Pod) {
		a := &p.Spec.Containers[0]
		p.Labels = map[string]string{"color": "blue"}
		p.Spec.ServiceAccountName = "default"
		p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
		a.VolumeMounts = []v1.VolumeMount{
			{Name: "empty", MountPath: "/empty"}, {Name: "empty", MountPath: "/fixed", ReadOnly: true}, {Name: "empty", MountPath: "/deep", SubPathExpr: "sub/$(FROM)"},
			{Name: "files", MountPath: "/files"}, {Name: "files", MountPath: "/etc/one.conf", SubPath: "a"}, {Name: "some", MountPath: "/some"},
			{Name: "none", MountPath: "/none"}, {Name: "hidden", MountPath: "/hidden"}, {Name: "all", MountPath: "/all"}, {Name: "pod", MountPath: "/pod"},
			{Name: "inner", MountPath: "/files/../empty/inner"},
		}
		p.Spec.Volumes = []v1.Volume{
			{Name: "empty", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
			{Name: "inner", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}}},
			{Name: "files", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: named("files")}}},
			{Name: "some", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: named("files"), Items: []v1.KeyToPath{{Key: "b", Path: "deep/er/b", Mode: &restricted}}}}},
			{Name: "none", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: named("nothing"), Optional: &yes}}},
			{Name: "hidden", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "hidden", DefaultMode: &restricted}}},
			{Name: "pod", VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "cpu", ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "app", Resource: "requests.cpu"}}}}}},
			{Name: "all", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: named("files")}}, {Secret: &v1.SecretProjection{LocalObjectReference: named("hidden")}},
				{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &tenMinutes, Audience: "someone"}}}}}},
		}
	})
	p := c.when("volumes", "ready", ready)
	for file, want := range map[string]string{"/files/a": "one", "/files/b": "two", "/etc/one.conf": "one", "/some/deep/er/b": "two", "/hidden/key": "secret", "/all/a": "one", "/all/key": "secret",
		"/pod/labels": `color="blue"`, "/pod/cpu": "0"} {
		if got, code := c.in("volumes", "cat", file); got != want || code != 0 {
			t.Errorf("%s holds %q (%d), want %q", file, got, code, want)
		}
	}
	for path, can := range map[string]bool{"/empty/x": true, "/fixed/y": false, "/deep/z": true, "/files/a": false, "/hidden/key": false, "/empty/inner/i": true} {
		if _, code := c.in("volumes", "write", path, "x"); (code == 0) != can {
			t.Errorf("writing %s: exit code %d", path, code)
		}
	}
	for path, want := range map[string]string{"/fixed/x": "x", "/empty/sub/image/z": "x"} {
		if got, _ := c.in("volumes", "cat", path); got != want {
			t.Errorf("%s holds %q", path, got)
		}
	}
	if got, _ := c.in("volumes", "cat", "/some/a"); !strings.Contains(got, "no such file") {
		t.Errorf("a key that is not among the items: %q", got)
	}
	got, _ := c.in("volumes", "stat", "/hidden/key")
	want := "-r--r----- 0 4321" // as Kubernetes: the group of the pod may read
	if n, err := c.client.CoreV1().Nodes().Get(t.Context(), "test", metav1.GetOptions{}); err != nil || strings.HasPrefix(n.Annotations["ebb.dev/isolation"], "user") {
		want = "-r-------- 0 0"
	}
	if got != want {
		t.Errorf("mode and owner: %q, want %q", got, want)
	}
	token, _ := c.in("volumes", "cat", "/all/token")
	if strings.Count(token, ".") != 2 {
		t.Errorf("no token: %d bytes", len(token))
	}
	// A restarted container finds what it has written.
	_, _ = http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation] + "/die")
	c.when("volumes", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool { return s.RestartCount == 1 && s.Ready })
	if got, _ := c.in("volumes", "cat", "/empty/x"); got != "x" {
		t.Errorf("after a restart the folder holds %q", got)
	}
	c.delete("volumes")
}

func testLiveVolumes(t *testing.T, c *cluster) {
	c.configMap("live", map[string]string{"a": "one", "b": "gone soon"})
	tenMinutes := int64(600)
	c.pod("live", func(p *v1.Pod) {
		p.Labels = map[string]string{"color": "blue"}
		p.Spec.ServiceAccountName = "default"
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "live", MountPath: "/live"}, {Name: "live", MountPath: "/once", SubPath: "a"}}
		p.Spec.Volumes = []v1.Volume{{Name: "live", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: named("live")}},
			{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &tenMinutes}}}}}}}
	})
	c.when("live", "ready", ready)
	holds := func(file, want string) {
		t.Helper()
		c.until(file+" holds "+want, func() bool { got, _ := c.in("live", "cat", file); return got == want })
	}
	holds("/live/a", "one")
	token, _ := c.in("live", "cat", "/live/token")
	c.configMap("live", map[string]string{"a": "two", "c": "new"})
	holds("/live/a", "two")
	holds("/live/c", "new")
	if got, _ := c.in("live", "cat", "/live/b"); !strings.Contains(got, "no such file") {
		t.Errorf("a key that has gone is still there: %q", got)
	}
	if got, _ := c.in("live", "cat", "/once"); got != "one" {
		t.Errorf("a subPath does not follow: %q", got)
	}
	if again, _ := c.in("live", "cat", "/live/token"); again != token {
		t.Error("the token was renewed long before its time")
	}
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{"color": "red"}}})
	if _, err := c.client.CoreV1().Pods("default").Patch(t.Context(), "live", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	holds("/live/labels", `color="red"`)
	// A new node process goes on with the volumes of running pods, with a token of its own.
	c.killNode()
	c.configMap("live", map[string]string{"a": "three"})
	c.startNode()
	holds("/live/a", "three")
	c.until("another token", func() bool {
		now, _ := c.in("live", "cat", "/live/token")
		return now != token && strings.Count(now, ".") == 2
	})
	c.configMap("live", map[string]string{"a": "four"})
	holds("/live/a", "four")
	c.delete("live")
}

// Where a mount path cannot be placed the pod says so.
func testNoVolumes(t *testing.T, c *cluster) {
	c.pod("novolume", func(p *v1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	})
	c.pod("notoken", func(p *v1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "kube-api-access-x", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
		p.Spec.Volumes = []v1.Volume{{Name: "kube-api-access-x", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	})
	c.when("novolume", "says so", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		w := s.State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `volume "v" cannot be mounted at /v`)
	})
	c.when("notoken", "ready", ready)
	for pod, reason := range map[string]string{"novolume": "Failed", "notoken": "NoServiceAccountToken"} {
		c.until("event "+reason, func() bool {
			l, err := c.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod + ",reason=" + reason})
			return err == nil && len(l.Items) > 0
		})
		c.delete(pod)
	}
}
