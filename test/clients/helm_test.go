package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestHelm: a chart with a Service is installed, changed, changed for the worse, rolled
// back and removed, each time with --wait, which says by the Service's conditions whether that went well.
func TestHelm(t *testing.T) {
	p := shared.Platform(t)
	ns := p.Namespace(t)
	program := helmProgram(t)
	helm := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--namespace", ns.In)...)
		home := t.TempDir()
		cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(p.Data, "kubeconfig"), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) {
		t.Helper()
		if out, err := helm(args...); err != nil {
			t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	says := func(want string) {
		t.Helper()
		p.AwaitAnswer(t, platform.External, ns.URL("shop", "/"), func(a platform.Answer) bool {
			return a.Status == 200 && strings.Contains(a.Body, want)
		})
	}
	image := p.Image(t, "examples/hello")
	const chart = "testdata/chart"

	must("install", "shop", chart, "--set", "image="+image, "--wait", "--timeout", "3m")
	ready := func() {
		t.Helper()
		var s v1.Service
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns.In, Name: "shop"}, &s); err != nil {
			t.Fatal(err)
		}
		if err := platform.Ready(s.Generation, s.Status.Status); err != nil {
			t.Errorf("helm has waited, and the Service is not ready: %v", err)
		}
	}
	ready()
	says("one")

	must("upgrade", "shop", chart, "--set", "image="+image, "--set", "target=two", "--wait", "--timeout", "3m")
	ready()
	says("two")

	if out, err := helm("upgrade", "shop", chart, "--set", "image="+missing(image), "--wait", "--timeout", "10s"); err == nil {
		t.Errorf("helm found a Service ready whose image does not exist:\n%s", out)
	}
	says("two")

	must("rollback", "shop", "1", "--wait", "--timeout", "3m")
	ready()
	says("one")

	must("uninstall", "shop", "--wait", "--cascade", "foreground", "--timeout", "3m")
	for _, list := range []client.ObjectList{&v1.ServiceList{}, &v1.ConfigurationList{}, &v1.RouteList{}, &v1.RevisionList{}, &appsv1.DeploymentList{}, &corev1.PodList{}} {
		if err := p.List(t.Context(), list, client.InNamespace(ns.In)); err != nil {
			t.Fatal(err)
		}
		if n := meta.LenList(list); n > 0 {
			t.Errorf("%d left in %T", n, list)
		}
	}
}

// helmProgram builds Helm from its module, once: the go command keeps it.
func helmProgram(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "helm").Output()
	if err != nil {
		t.Fatalf("build helm: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// missing is an image that the registry of another one does not have.
func missing(image string) string {
	registry, _, _ := strings.Cut(image, "/")
	return registry + "/nothing/there:v1"
}
