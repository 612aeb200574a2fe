package e2e

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// toolbox makes an image that stands for a public one, as an OCI layout in a tar, and
// brings it to the platform with `ebb image load`.
func toolbox(t *testing.T, n *platform.Namespace) string {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "toolbox")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "ebb.dev/ebb/test/toolbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the toolbox: %v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	write := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	write(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	write(&tar.Header{Name: "bin/toolbox", Typeflag: tar.TypeReg, Mode: 0o755}, program)
	for _, tool := range []string{"python", "cat", "tar", "write", "exit", "get"} {
		write(&tar.Header{Name: "bin/" + tool, Typeflag: tar.TypeSymlink, Linkname: "toolbox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	config, err := empty.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	img, err := mutate.ConfigFile(empty.Image, config)
	if err == nil {
		img, err = mutate.AppendLayers(img, layer)
	}
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "python")
	p, err := layout.Write(folder, empty.Index)
	if err == nil {
		err = p.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(dir, "python.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	packed := tar.NewWriter(archive)
	if err := packed.AddFS(os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	load := []string{"image", "load", archive.Name()}
	if n.OnCluster() {
		load = append(load, "--registry", n.Running().Registry)
	}
	out, errOut, err := n.Command(t.Context(), "", load...)
	if err != nil {
		t.Fatalf("ebb image load: %v; it printed %s%s", err, out, errOut)
	}
	ref := strings.TrimSpace(out)
	if !regexp.MustCompile(`^\S+/python@sha256:[0-9a-f]{64}$`).MatchString(ref) {
		t.Fatalf("ebb image load printed %q", out)
	}
	return ref
}

func kubectl(t *testing.T, n *platform.Namespace, input string, args ...string) string {
	t.Helper()
	out, errOut, err := n.Command(t.Context(), input, append([]string{"kubectl", "-n", n.In}, args...)...)
	if err != nil {
		t.Fatalf("kubectl %s: %v; it printed %s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

// TestPythonExample is examples/python as a user applies it, with a local image in the place
// of the public one.
func TestPythonExample(t *testing.T) {
	n := begin(t)
	manifest, err := os.ReadFile(filepath.Join(platform.Root(), "examples/python/service.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const public = "docker.io/library/python:3-alpine"
	if strings.Count(string(manifest), public) != 1 {
		t.Fatalf("examples/python does not name %s once", public)
	}
	kubectl(t, n, strings.ReplaceAll(string(manifest), public, toolbox(t, n)), "apply", "-f", "-")
	n.AwaitReady("python")
	n.AwaitAnswer(t, platform.External, n.URL("python", "/"), func(a platform.Answer) bool {
		return a.Status == http.StatusOK && strings.Contains(a.Body, `from Python`)
	})
	// The source that a running pod sees follows the ConfigMap.
	kubectl(t, n, "", "patch", "configmap", "python-source", "-p", `{"data":{"main.py":"changed"}}`)
	n.AwaitAnswer(t, platform.External, n.URL("python", "/"), func(a platform.Answer) bool { return a.Body == "changed" })
}

// TestWholePod is a Service with all that a pod may have.
func TestWholePod(t *testing.T) {
	n := begin(t)
	image := toolbox(t, n)
	always := corev1.ContainerRestartPolicyAlways
	if err := n.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "page"}, Data: map[string]string{"page": "from the ConfigMap"}}); err != nil {
		t.Fatal(err)
	}
	shared := []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	n.Deploy("whole", func(s *v1.Service) {
		s.Spec.Template.Annotations["autoscaling.knative.dev/min-scale"] = "1"
		spec := &s.Spec.Template.Spec
		spec.AutomountServiceAccountToken = new(true)
		spec.InitContainers = []corev1.Container{
			{Name: "side", Image: image, RestartPolicy: &always, Command: []string{"python", "/page/page"}, Env: []corev1.EnvVar{{Name: "PORT", Value: "0"}}, VolumeMounts: []corev1.VolumeMount{{Name: "page", MountPath: "/page"}}},
			{Name: "first", Image: image, Command: []string{"write", "/shared/made", "by the init container"}, VolumeMounts: shared},
		}
		spec.Containers = []corev1.Container{
			{Name: "web", Image: image, Command: []string{"python", "/shared/made"}, Ports: []corev1.ContainerPort{{ContainerPort: 8080}}, VolumeMounts: shared,
				Resources:      corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi"), corev1.ResourceCPU: resource.MustParse("1")}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"cat", "/shared/made"}}}}},
			{Name: "second", Image: image, Command: []string{"python", "/page/page"}, Env: []corev1.EnvVar{{Name: "PORT", Value: "0"}}, VolumeMounts: []corev1.VolumeMount{{Name: "page", MountPath: "/page"}}},
		}
		spec.Volumes = []corev1.Volume{
			{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "page", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "page"}}}},
		}
	})
	n.AwaitAnswer(t, platform.External, n.URL("whole", "/"), func(a platform.Answer) bool { return a.Body == "by the init container" })
	pod := n.AwaitReadyPods("whole", 1)[0].Name

	if out := kubectl(t, n, "", "exec", pod, "-c", "web", "--", "cat", "/shared/made"); out != "by the init container" {
		t.Errorf("exec: %q", out)
	}
	if out := kubectl(t, n, "typed", "exec", "-i", pod, "-c", "second", "--", "cat"); out != "typed" {
		t.Errorf("exec -i: %q", out)
	}
	if out := kubectl(t, n, "", "exec", pod, "-c", "second", "--", "cat", "/page/page"); out != "from the ConfigMap" {
		t.Errorf("the second container: %q", out)
	}
	if token := kubectl(t, n, "", "exec", pod, "-c", "web", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"); strings.Count(token, ".") != 2 {
		t.Errorf("the service account's token has %d bytes", len(token))
	}
	if _, errOut, err := n.Command(t.Context(), "", "kubectl", "-n", n.In, "exec", pod, "-c", "web", "--", "exit", "3"); err == nil || !strings.Contains(errOut, "exit code 3") {
		t.Errorf("exit code: %v %s", err, errOut)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("copied"), 0o644); err != nil {
		t.Fatal(err)
	}
	kubectl(t, n, "", "cp", "-c", "web", file, pod+":/tmp/file")
	kubectl(t, n, "", "cp", "-c", "web", pod+":/tmp/file", file+"-back")
	if b, err := os.ReadFile(file + "-back"); string(b) != "copied" {
		t.Errorf("cp: %q %v", b, err)
	}

	forward := exec.Command(filepath.Join(filepath.Dir(n.Ebb), "ebb-kube"), "kubectl", "-n", n.In, "port-forward", "pod/"+pod, ":8080")
	forward.Env = append(os.Environ(), "KUBECONFIG="+n.Running().Kubeconfig)
	out, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forward.Process.Kill(); _ = forward.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d ->", &port); err != nil {
		t.Fatalf("port-forward says %q", line)
	}
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if b, _ := io.ReadAll(answer.Body); string(b) != "by the init container" {
		t.Errorf("port-forward: %q", b)
	}
}

// TestServiceCallsService is a call from a pod by the cluster-local name, which only the
// in-cluster listener answers.
func TestServiceCallsService(t *testing.T) {
	n := begin(t)
	image := toolbox(t, n)
	page := func(text string) func(*v1.Service) {
		return func(s *v1.Service) {
			s.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "first", Image: image, Command: []string{"write", "/shared/page", text}, VolumeMounts: []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}}}
			s.Spec.Template.Spec.Containers = []corev1.Container{{Image: image, Command: []string{"python", "/shared/page"}, VolumeMounts: []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}}}
			s.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}
	}
	n.Deploy("caller", func(s *v1.Service) {
		page("caller")(s)
		s.Spec.Template.Annotations["autoscaling.knative.dev/min-scale"] = "1"
	})
	n.AwaitAnswer(t, platform.External, n.URL("caller", "/"), func(a platform.Answer) bool { return a.Body == "caller" })
	var node corev1.Node
	if err := n.WithWatch.Get(t.Context(), client.ObjectKey{Name: n.NodeName(t)}, &node); err != nil {
		t.Fatal(err)
	}
	if isolation := node.Annotations["ebb.dev/isolation"]; isolation == "none" {
		t.Skip("pods are plain processes on this machine: there is no /etc/hosts of their own for the names")
	}
	// A Service made after the caller's pod, not reached from outside, and at zero.
	n.DeployAtZero("called", func(s *v1.Service) {
		page("called")(s)
		s.Labels = map[string]string{serving.VisibilityLabel: serving.VisibilityClusterLocal}
	})
	_, port, err := net.SplitHostPort(n.Running().Internal)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"called." + n.In + ".svc.cluster.local", "called." + n.In + ".svc", "called." + n.In} {
		n.AwaitAnswer(t, platform.External, n.URL("caller", "/?get=http://"+host+":"+port+"/"), func(a platform.Answer) bool { return a.Status == http.StatusOK && a.Body == "called" })
	}
}
