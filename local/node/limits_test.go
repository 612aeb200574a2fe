package node_test

import (
	"strings"
	"testing"

	"ebb.dev/ebb/local/node"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testLimits(t *testing.T, c *cluster) {
	n, err := c.client.CoreV1().Nodes().Get(t.Context(), "test", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.pod("eats", func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a := &p.Spec.Containers[0]
		a.ReadinessProbe = nil
		a.Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("48Mi"), v1.ResourceCPU: resource.MustParse("500m")}
		if why := n.Annotations[node.LimitsAnnotation]; why == "" {
			a.Args = []string{"eat"}
		}
	})
	if why := n.Annotations[node.LimitsAnnotation]; why != "" { // then it is said, on the pod and on the node
		t.Logf("limits are not enforced here: %s", why)
		c.until("event", func() bool {
			l, err := c.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=eats,reason=LimitsNotEnforced"})
			return err == nil && len(l.Items) > 0 && strings.Contains(l.Items[0].Message, why)
		})
	} else {
		p := c.when("eats", "ended", func(_ *v1.Pod, s v1.ContainerStatus) bool { return s.State.Terminated != nil })
		if x := p.Status.ContainerStatuses[0].State.Terminated; x.Reason != "OOMKilled" || x.ExitCode != 137 || p.Status.Phase != v1.PodFailed {
			t.Errorf("%+v", x)
		}
	}
	c.delete("eats")
}

func testUsers(t *testing.T, c *cluster) {
	n, err := c.client.CoreV1().Nodes().Get(t.Context(), "test", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uid, gid, fs, yes := int64(1234), int64(2345), int64(3456), true
	c.pod("user", func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: &uid, RunAsGroup: &gid, FSGroup: &fs, RunAsNonRoot: &yes, SupplementalGroups: []int64{77}}
		p.Spec.Containers[0].SecurityContext = &v1.SecurityContext{ReadOnlyRootFilesystem: &yes}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	})
	c.when("user", "ready", ready)
	want, stat := "1234 2345 [77 2345 3456]", "dgrwxrwxrwx 0 3456"
	if strings.HasPrefix(n.Annotations[node.IsolationAnnotation], "user") { // one user and group exist, and all files are theirs
		want, stat = "1234 2345", "drwxrwxrwx 1234 2345"
	}
	if got, _ := c.in("user", "id"); !strings.HasPrefix(got, want) {
		t.Errorf("it runs as %q, want %q", got, want)
	}
	if got, _ := c.in("user", "stat", "/v"); got != stat {
		t.Errorf("the volume is %q, want %q", got, stat)
	}
	if got, code := c.in("user", "write", "/v/x", "x"); code != 0 {
		t.Errorf("write to the volume: %s", got)
	}
	if got, code := c.in("user", "write", "/x", "x"); code == 0 || !strings.Contains(got, "read-only") && !strings.Contains(got, "permission denied") {
		t.Errorf("write to a read-only root: %s", got)
	}
	c.delete("user")
}

func testConditions(t *testing.T, c *cluster) {
	n, err := c.client.CoreV1().Nodes().Get(t.Context(), "test", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[v1.NodeConditionType]v1.ConditionStatus{}
	for _, x := range n.Status.Conditions {
		got[x.Type] = x.Status
		if x.Reason == "" || x.LastHeartbeatTime.IsZero() || x.LastTransitionTime.IsZero() {
			t.Errorf("%+v", x)
		}
	}
	if len(got) != 4 || got[v1.NodeReady] != v1.ConditionTrue || got[v1.NodeMemoryPressure] == "" || got[v1.NodeDiskPressure] == "" || got[v1.NodePIDPressure] == "" {
		t.Errorf("conditions %v", got)
	}
}
