package node_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// in runs a tool of the test program in a pod and gives its output and exit code.
func (c *cluster) in(pod string, args ...string) (string, int) {
	c.t.Helper()
	b, err := c.kubectl(append([]string{"exec", pod, "--", "/program"}, args...)...).CombinedOutput()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(b)), code
}

func (c *cluster) isolated() bool { return c.cfg.Isolate }

func testExec(t *testing.T, c *cluster) {
	c.pod("exec", env("WHAT", "container"))
	c.when("exec", "ready", ready)
	defer c.delete("exec")
	if got, code := c.in("exec", "env", "WHAT"); got != "container" || code != 0 {
		t.Errorf("environment: %q %d", got, code)
	}
	if got, code := c.in("exec", "exit", "7"); code != 7 || !strings.Contains(got, "leaving") {
		t.Errorf("exit code %d: %q", code, got)
	}
	if got, code := c.in("exec", "exit", "0"); code != 0 {
		t.Errorf("exit code %d: %q", code, got)
	}
	k := c.kubectl("exec", "-i", "exec", "--", "/program", "cat")
	k.Stdin = strings.NewReader(strings.Repeat("input\n", 100000))
	if b, err := k.Output(); err != nil || string(b) != strings.Repeat("input\n", 100000) {
		t.Errorf("input: %d bytes %v", len(b), err)
	}
	b, err := c.kubectl("exec", "exec", "--", "/nowhere").CombinedOutput()
	if err == nil || !strings.Contains(string(b), "no such file") && !strings.Contains(string(b), "127") {
		t.Errorf("a program that is not there: %s %v", b, err)
	}
	if b, err := c.kubectl("exec", "exec", "-c", "other", "--", "/program").CombinedOutput(); err == nil || !strings.Contains(string(b), "other") {
		t.Errorf("a container that is not there: %s %v", b, err)
	}
	// A terminal: kubectl wants one on its side too.
	master, slave := terminal(t)
	k = c.kubectl("exec", "-it", "exec", "--", "/program", "terminal")
	k.Stdin, k.Stdout, k.Stderr = slave, slave, slave
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	lines := bufio.NewScanner(master)
	for _, want := range []string{"terminal true", "typed", "read typed"} {
		found := false
		for !found && lines.Scan() {
			found = strings.TrimSpace(lines.Text()) == want
		}
		if !found {
			t.Fatalf("no line %q: %v", want, lines.Err())
		}
		if want == "terminal true" {
			fmt.Fprintln(master, "typed")
		}
	}
	if err := k.Wait(); err != nil {
		t.Error(err)
	}
	if !c.isolated() {
		return
	}
	// cp is exec and tar.
	from := filepath.Join(t.TempDir(), "from")
	if err := os.WriteFile(from, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := c.kubectl("cp", from, "exec:/tmp/to").CombinedOutput(); err != nil {
		t.Errorf("cp in: %v %s", err, b)
	}
	if got, _ := c.in("exec", "cat", "/tmp/to"); got != "content" {
		t.Errorf("copied: %q", got)
	}
	if b, err := c.kubectl("cp", "exec:/tmp/to", from+"2").CombinedOutput(); err != nil {
		t.Errorf("cp out: %v %s", err, b)
	}
	if b, err := os.ReadFile(from + "2"); string(b) != "content" {
		t.Errorf("copied back: %q %v", b, err)
	}
}

func testAttach(t *testing.T, c *cluster) {
	c.pod("attach", func(p *v1.Pod) { env("READ", "1")(p); p.Spec.Containers[0].Stdin = true })
	c.when("attach", "ready", ready)
	k := c.kubectl("attach", "-i", "attach")
	in, err := k.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := k.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "you")
	lines := bufio.NewScanner(out)
	heard := false
	for !heard && lines.Scan() {
		heard = lines.Text() == "heard you"
	}
	if !heard {
		t.Error("its answer did not come")
	}
	c.delete("attach") // its end is the end of the attachment
	for lines.Scan() {
	}
	_ = k.Wait()
	c.pod("deaf", nil)
	c.when("deaf", "ready", ready)
	if b, err := c.kubectl("attach", "-i", "deaf").CombinedOutput(); err == nil && !strings.Contains(string(b), "stdin") {
		t.Errorf("input of a container without: %s %v", b, err)
	}
	c.delete("deaf")
}

func testForward(t *testing.T, c *cluster) {
	c.pod("forward", nil)
	c.when("forward", "ready", ready)
	defer c.delete("forward")
	k := c.kubectl("port-forward", "pod/forward", ":8080")
	out, err := k.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Process.Kill(); _ = k.Wait() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("it says nothing")
	}
	var port int
	if _, err := fmt.Sscanf(lines.Text(), "Forwarding from 127.0.0.1:%d -> 8080", &port); err != nil {
		t.Fatalf("%q: %v", lines.Text(), err)
	}
	for range 3 {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if !strings.HasPrefix(string(b), "pid ") {
			t.Errorf("%q", b)
		}
	}
}

func testExecProbes(t *testing.T, c *cluster) {
	probe := func(args ...string) *v1.Probe {
		return &v1.Probe{PeriodSeconds: 1, FailureThreshold: 2, TimeoutSeconds: 5, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: append([]string{"/program"}, args...)}}}
	}
	flag := filepath.Join(t.TempDir(), "flag")
	if c.isolated() {
		flag = "/tmp/flag"
	}
	c.pod("execprobe", func(p *v1.Pod) {
		a := &p.Spec.Containers[0]
		a.StartupProbe, a.LivenessProbe, a.ReadinessProbe = probe("exit", "0"), probe("exit", "0"), probe("cat", flag)
		a.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"/program", "write", flag + "-hook", "x"}}}}
	})
	p := c.when("execprobe", "started and not ready", func(p *v1.Pod, s v1.ContainerStatus) bool {
		for _, x := range p.Status.Conditions {
			if x.Type == v1.ContainersReady && strings.Contains(x.Message, "no such file") {
				return s.Started != nil && *s.Started && !s.Ready
			}
		}
		return false
	})
	if got, code := c.in("execprobe", "write", flag, "x"); code != 0 {
		t.Fatalf("%s %d", got, code)
	}
	c.when("execprobe", "ready", ready)
	if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("restarted %d times", n)
	}
	c.delete("execprobe")
	if !c.isolated() {
		if _, err := os.Stat(flag + "-hook"); err != nil {
			t.Errorf("the preStop hook: %v", err)
		}
	}
	c.pod("execsick", func(p *v1.Pod) { p.Spec.Containers[0].LivenessProbe = probe("exit", "1") })
	c.when("execsick", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool { return s.RestartCount > 0 })
	c.delete("execsick")
}

func testSidecars(t *testing.T, c *cluster) {
	always := v1.ContainerRestartPolicyAlways
	c.pod("sidecar", func(p *v1.Pod) {
		side := *p.Spec.Containers[0].DeepCopy()
		side.Name, side.Ports, side.RestartPolicy, side.ReadinessProbe = "side", nil, &always, nil
		side.Env = []v1.EnvVar{{Name: "PORT", Value: "0"}}
		side.StartupProbe = &v1.Probe{PeriodSeconds: 1, FailureThreshold: 60, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"/program", "cat", "/shared/go"}}}}
		side.VolumeMounts = []v1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
		second := *p.Spec.Containers[0].DeepCopy()
		second.Name, second.Ports, second.ReadinessProbe = "second", nil, nil
		second.Env = []v1.EnvVar{{Name: "PORT", Value: "0"}}
		second.VolumeMounts = side.VolumeMounts
		p.Spec.InitContainers = []v1.Container{side}
		p.Spec.Containers = append(p.Spec.Containers, second)
		p.Spec.Volumes = []v1.Volume{{Name: "shared", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	})
	p := c.when("sidecar", "sidecar running", func(p *v1.Pod, _ v1.ContainerStatus) bool {
		return len(p.Status.InitContainerStatuses) > 0 && p.Status.InitContainerStatuses[0].State.Running != nil
	})
	if s := p.Status.ContainerStatuses[0].State; s.Waiting == nil {
		t.Errorf("the containers did not wait for the sidecar's startup probe: %+v", s)
	}
	b, err := c.kubectl("exec", "sidecar", "-c", "side", "--", "/program", "write", "/shared/go", "x").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, b)
	}
	c.when("sidecar", "ready", func(p *v1.Pod, s v1.ContainerStatus) bool {
		return s.Ready && p.Status.ContainerStatuses[1].Ready && p.Status.InitContainerStatuses[0].Ready
	})
	if b, err := c.kubectl("exec", "sidecar", "-c", "second", "--", "/program", "cat", "/shared/go").CombinedOutput(); err != nil || string(b) != "x" {
		t.Errorf("the shared folder: %v %s", err, b)
	}
	if b, err := c.kubectl("exec", "sidecar", "-c", "second", "--", "/program", "env", "PORT").CombinedOutput(); err != nil || string(b) != "0\n" {
		t.Errorf("the second container's port: %v %s", err, b)
	}
	c.delete("sidecar")
}

// What runs in a container for somebody ends with the node process that runs it.
func testExecEnds(t *testing.T, c *cluster) {
	c.pod("execends", nil)
	c.when("execends", "ready", ready)
	marker := "marker-" + strings.ReplaceAll(t.Name(), "/", "-")
	k := c.kubectl("exec", "-i", "execends", "--", "/program", "terminal", marker)
	in, err := k.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Process.Kill(); _ = k.Wait() }()
	count := func() (n int) {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), "/program\x00terminal\x00"+marker) {
				n++
			}
		}
		return n
	}
	c.until("it runs", func() bool { return count() == 1 })
	c.killNode()
	c.until("it has ended", func() bool { return count() == 0 })
	c.startNode()
	c.delete("execends")
}
