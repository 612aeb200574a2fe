package node_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/local/node"
	v1img "github.com/google/go-containerregistry/pkg/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const program = `package main
import ("archive/tar";"bufio";"fmt";"io";"net/http";"os";"os/signal";"path/filepath";"strconv";"strings";"syscall";"time")
// What an image with a shell would have: sh -c 'exit N', cat, tty, size, tar as kubectl cp calls it.
func tool(args []string) {
	switch filepath.Base(args[0]) {
	case "cat": if len(args) == 1 { io.Copy(os.Stdout, os.Stdin) }
		for _, f := range args[1:] { b, err := os.ReadFile(f); if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }; os.Stdout.Write(b) }
	case "exit": n, _ := strconv.Atoi(args[1]); fmt.Fprintln(os.Stderr, "leaving"); os.Exit(n)
	case "env": fmt.Println(os.Getenv(args[1]))
	case "id": g, _ := os.Getgroups(); fmt.Println(os.Getuid(), os.Getgid(), g)
	case "stat": i, err := os.Stat(args[1]); if err != nil { fmt.Println(err); os.Exit(1) }; s := i.Sys().(*syscall.Stat_t); fmt.Println(i.Mode(), s.Uid, s.Gid)
	case "write": if err := os.WriteFile(args[1], []byte(args[2]), 0o644); err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	case "get": r, err := http.Get(args[1]); if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }; io.Copy(os.Stdout, r.Body)
	case "eat": var all [][]byte; for { b := make([]byte, 1<<20); for i := range b { b[i] = 1 }; all = append(all, b) }
	case "terminal": st, _ := os.Stdin.Stat(); fmt.Println("terminal", st.Mode()&os.ModeCharDevice != 0); l, _ := bufio.NewReader(os.Stdin).ReadString('\n'); fmt.Print("read ", l)
	case "tar":
		if args[1] == "cf" { w := tar.NewWriter(os.Stdout); b, err := os.ReadFile(args[3]); if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
			w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(args[3], "/"), Size: int64(len(b)), Mode: 0o644}); w.Write(b); w.Close(); return }
		r := tar.NewReader(os.Stdin); h, err := r.Next(); if err != nil { panic(err) }; b, _ := io.ReadAll(r)
		if err := os.WriteFile(filepath.Join(args[len(args)-1], h.Name), b, 0o644); err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }; io.Copy(io.Discard, os.Stdin)
	default: fmt.Println("no tool", args); os.Exit(3)
	}
}
func main() {
	if filepath.Base(os.Args[0]) == "tar" { tool(os.Args); return }
	if len(os.Args) > 1 { tool(os.Args[1:]); return }
	if os.Getenv("READ") != "" { go func() { s := bufio.NewScanner(os.Stdin); for s.Scan() { fmt.Println("heard", s.Text()) } }() }
	if m := os.Getenv("MESSAGE"); m != "" { os.WriteFile("/dev/termination-log", []byte(m), 0o644) }
	if c := os.Getenv("EXIT"); c != "" { fmt.Fprintln(os.Stderr, "leaving with", c); n, _ := strconv.Atoi(c); os.Exit(n) }
	healthy := true
	go http.ListenAndServe(":"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/env": fmt.Fprint(w, os.Getenv(q.URL.RawQuery))
		case "/file": b, err := os.ReadFile(q.URL.RawQuery); fmt.Fprint(w, string(b), err)
		case "/die": os.Exit(4)
		case "/sick": healthy = false
		case "/healthy": if !healthy { w.WriteHeader(500) }
		case "/say": fmt.Println(q.URL.RawQuery)
		default: fmt.Fprint(w, "pid ", os.Getpid())
		}
	}))
	fmt.Println("serving")
	c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGTERM); <-c
	if u := os.Getenv("LASTWORD"); u != "" { http.Get(u) }
	if d := os.Getenv("SLOW"); d != "" { t, _ := time.ParseDuration(d); time.Sleep(t) }
}`

// buildProgram builds a static binary of a package or a file.
func buildProgram(t *testing.T, what string) string {
	out := filepath.Join(t.TempDir(), "binary")
	c := exec.Command("go", "build", "-o", out, what)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", what, err, b)
	}
	return out
}

func build(t *testing.T) string {
	src := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(src, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	return buildProgram(t, src)
}

func ask(t *testing.T, p *v1.Pod, path string) string {
	t.Helper()
	res, err := http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

func readiness() *v1.Probe {
	return &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/healthy", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, FailureThreshold: 1}
}

// All on one API server: it takes seconds to start.
func TestNode(t *testing.T) {
	c := newCluster(t, true)
	binary := build(t)
	c.push("program:v1", binary, v1img.Config{Entrypoint: []string{"/program"}, Env: []string{"FROM=image"}})
	for _, s := range []struct {
		name string
		f    func(*testing.T, *cluster)
	}{
		{"serves and its logs are read", testServes}, {"pull errors", testPull}, {"pull secrets", testPullSecrets}, {"exit codes, messages, restarts", testExits}, {"preStop before SIGTERM", testPreStop},
		{"killed after its grace", testGrace}, {"readiness and liveness", testProbes}, {"environment and volumes", testEnvironment}, {"two pods, two ports", testPorts},
		{"init containers", testInit}, {"sidecars", testSidecars}, {"volumes", testVolumes}, {"volumes follow their sources", testLiveVolumes}, {"claims", testClaims}, {"image volumes", testImageVolumes}, {"exec", testExec}, {"exec ends with the node", testExecEnds}, {"attach", testAttach},
		{"port-forward", testForward}, {"exec probes and hooks", testExecProbes}, {"limits", testLimits}, {"metrics", testMetrics}, {"users and groups", testUsers}, {"conditions", testConditions}, {"start latency", testLatency}, {"kill -9 of the node", testKilled},
	} {
		t.Run(s.name, func(t *testing.T) { d := *c; d.t = t; s.f(t, &d); c.node = d.node })
	}
}

// As another user, whom the tests' own user is not.
func TestUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TestNode runs as this unprivileged user already")
	}
	c := newClusterAs(t, true, 65534)
	n, err := c.client.CoreV1().Nodes().Get(t.Context(), "test", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n.Annotations[node.IsolationAnnotation] == "none" {
		t.Skipf("this machine lets no user but root isolate containers: %s", n.Annotations[node.IsolationReasonAnnotation])
	}
	c.push("program:v1", build(t), v1img.Config{Entrypoint: []string{"/program"}, Env: []string{"FROM=image"}})
	for _, s := range []struct {
		name string
		f    func(*testing.T, *cluster)
	}{
		{"serves and its logs are read", testServes}, {"sidecars", testSidecars}, {"volumes", testVolumes}, {"volumes follow their sources", testLiveVolumes}, {"claims", testClaims}, {"image volumes", testImageVolumes}, {"exec", testExec}, {"exec ends with the node", testExecEnds}, {"attach", testAttach},
		{"exec probes and hooks", testExecProbes}, {"limits", testLimits}, {"metrics", testMetrics}, {"users and groups", testUsers}, {"kill -9 of the node", testKilled},
	} {
		t.Run(s.name, func(t *testing.T) { d := *c; d.t = t; s.f(t, &d); c.node = d.node })
	}
}

// Where the machine forbids namespaces.
func TestPlain(t *testing.T) {
	c := newCluster(t, false)
	c.push("program:v1", build(t), v1img.Config{Entrypoint: []string{"/program"}, WorkingDir: "/tmp"})
	for _, s := range []struct {
		name string
		f    func(*testing.T, *cluster)
	}{{"serves and its logs are read", testServes}, {"killed after its grace", testGrace}, {"exec", testExec}, {"exec ends with the node", testExecEnds}, {"exec probes and hooks", testExecProbes}, {"port-forward", testForward}, {"volumes", testNoVolumes}, {"start latency", testLatency}, {"kill -9 of the node", testKilled}} {
		t.Run(s.name, func(t *testing.T) { d := *c; d.t = t; s.f(t, &d); c.node = d.node })
	}
}

func testServes(t *testing.T, c *cluster) {
	c.pod("serves", func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = readiness() })
	p := c.when("serves", "ready", ready)
	if got := ask(t, p, "/env?PORT"); got != p.Annotations[node.PortAnnotation] {
		t.Errorf("$PORT is %q", got)
	}
	follow := c.kubectl("logs", "-f", "serves")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("line %q, want %q", lines.Text(), want)
		}
	}
	expect("serving")
	ask(t, p, "/say?one")
	expect("one")
	ask(t, p, "/say?two")
	expect("two")
	b, err := c.kubectl("logs", "serves", "--tail=1").CombinedOutput()
	if err != nil || string(b) != "two\n" {
		t.Errorf("tail: %q %v", b, err)
	}
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "serves", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() { // the follower ends with the container
		t.Errorf("another line %q", lines.Text())
	}
	if err := follow.Wait(); err != nil {
		t.Error(err)
	}
	c.until("pod gone", func() bool { return c.get("serves") == nil })
}

func testPull(t *testing.T, c *cluster) {
	c.pod("unknown", func(p *v1.Pod) { p.Spec.Containers[0].Image = c.registry + "/nowhere:v1" })
	c.pod("unreachable", func(p *v1.Pod) { p.Spec.Containers[0].Image = "127.0.0.1:1/x:v1" })
	c.pod("invalid", func(p *v1.Pod) { p.Spec.Containers[0].Image = "UPPER CASE" })
	for name, words := range map[string][2]string{"unknown": {"ImagePullBackOff", "NAME_UNKNOWN"}, "unreachable": {"ImagePullBackOff", "connection refused"}, "invalid": {"InvalidImageName", "UPPER CASE"}} {
		p := c.when(name, words[0], func(_ *v1.Pod, s v1.ContainerStatus) bool {
			w := s.State.Waiting
			return w != nil && w.Reason == words[0] && strings.Contains(w.Message, words[1])
		})
		if p.Status.Phase != v1.PodPending {
			t.Errorf("%s: phase %s", name, p.Status.Phase)
		}
		c.delete(name)
	}
}

func (c *cluster) delete(name string) {
	c.t.Helper()
	if err := c.client.CoreV1().Pods("default").Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.until("pod "+name+" gone", func() bool { return c.get(name) == nil })
}

func env(k, v string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, v1.EnvVar{Name: k, Value: v})
	}
}

func testExits(t *testing.T, c *cluster) {
	c.pod("crashes", func(p *v1.Pod) {
		env("EXIT", "9")(p)
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
	})
	p := c.when("crashes", "CrashLoopBackOff", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
	})
	s := p.Status.ContainerStatuses[0]
	if l := s.LastTerminationState.Terminated; l == nil || l.ExitCode != 9 || l.Reason != "Error" || l.Message != "leaving with 9\n" || s.RestartCount != 1 {
		t.Errorf("%+v", s)
	}
	if p.Status.Phase != v1.PodRunning {
		t.Errorf("phase %s", p.Status.Phase)
	}
	b, err := c.kubectl("logs", "--previous", "crashes").CombinedOutput()
	if err != nil || string(b) != "leaving with 9\n" {
		t.Errorf("previous: %q %v", b, err)
	}
	c.delete("crashes")

	for code, phase := range map[string]v1.PodPhase{"0": v1.PodSucceeded, "5": v1.PodFailed} {
		c.pod("once", func(p *v1.Pod) {
			p.Spec.RestartPolicy = v1.RestartPolicyNever
			env("EXIT", code)(p)
			env("MESSAGE", "the last word")(p)
		})
		p := c.when("once", "ended", func(p *v1.Pod, s v1.ContainerStatus) bool { return s.State.Terminated != nil })
		if got := p.Status.ContainerStatuses[0].State.Terminated; p.Status.Phase != phase || strconv.Itoa(int(got.ExitCode)) != code || got.Message != "the last word" {
			t.Errorf("%s %+v", p.Status.Phase, got)
		}
		c.delete("once")
	}

	c.pod("nothing", func(p *v1.Pod) { p.Spec.Containers[0].Command = []string{"/missing"} })
	c.when("nothing", "StartError", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		for _, st := range []v1.ContainerState{s.State, s.LastTerminationState} {
			if x := st.Terminated; x != nil && x.Reason == "StartError" && x.ExitCode == 128 && strings.Contains(x.Message, "/missing: no such file") {
				return true
			}
		}
		return false
	})
	c.delete("nothing")

	c.pod("dies", nil)
	p = c.when("dies", "ready", ready)
	_, _ = http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation] + "/die")
	c.when("dies", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		return s.RestartCount == 1 && s.Ready && s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode == 4
	})
	c.delete("dies")
}

// The hook is asked first, and SIGTERM comes only when it has answered.
func testPreStop(t *testing.T, c *cluster) {
	order := make(chan string, 10)
	answer := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		order <- q.URL.Path
		if q.URL.Path == "/hook" {
			<-answer
		}
	}))
	defer s.Close()
	_, p, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	n, _ := strconv.Atoi(p)
	c.pod("hooked", func(p *v1.Pod) {
		env("LASTWORD", s.URL+"/sigterm")(p)
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Host: "127.0.0.1", Port: intstr.FromInt(n), Path: "/hook"}}}
	})
	pod := c.when("hooked", "ready", ready)
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "hooked", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := <-order; got != "/hook" {
		t.Fatalf("first %s", got)
	}
	if got := ask(t, pod, "/"); !strings.Contains(got, "pid") { // it goes on serving meanwhile
		t.Error(got)
	}
	close(answer)
	if got := <-order; got != "/sigterm" {
		t.Fatalf("then %s", got)
	}
	c.until("pod gone", func() bool { return c.get("hooked") == nil })
}

func testGrace(t *testing.T, c *cluster) {
	one := int64(1)
	c.pod("slow", func(p *v1.Pod) { env("SLOW", "1h")(p); p.Spec.TerminationGracePeriodSeconds = &one })
	p := c.when("slow", "ready", ready)
	c.delete("slow")
	if _, err := http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation] + "/"); err == nil {
		t.Error("it serves after its end")
	}
	// Less grace in a second delete.
	c.pod("slower", func(p *v1.Pod) {
		env("SLOW", "1h")(p)
		hour := int64(3600)
		p.Spec.TerminationGracePeriodSeconds = &hour
	})
	c.when("slower", "ready", ready)
	for _, g := range []int64{3600, 1} {
		if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "slower", metav1.DeleteOptions{GracePeriodSeconds: &g}); err != nil {
			t.Fatal(err)
		}
	}
	c.until("pod gone", func() bool { return c.get("slower") == nil })
}

func testProbes(t *testing.T, c *cluster) {
	c.pod("sick", func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = readiness() })
	p := c.when("sick", "ready", ready)
	ask(t, p, "/sick")
	p = c.when("sick", "not ready", func(_ *v1.Pod, s v1.ContainerStatus) bool { return !s.Ready && s.State.Running != nil })
	i := slices.IndexFunc(p.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.PodReady })
	if m := p.Status.Conditions[i]; m.Status != v1.ConditionFalse || !strings.Contains(m.Message, "statuscode: 500") {
		t.Errorf("%+v", m)
	}
	c.delete("sick")

	c.pod("dead", func(p *v1.Pod) {
		p.Spec.Containers[0].LivenessProbe = readiness()
		p.Spec.Containers[0].LivenessProbe.FailureThreshold = 3
	})
	p = c.when("dead", "ready", ready)
	ask(t, p, "/sick")
	c.when("dead", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool { return s.RestartCount == 1 && s.Ready })
	c.delete("dead")

	c.pod("never", func(p *v1.Pod) {
		p.Spec.Containers[0].StartupProbe = &v1.Probe{PeriodSeconds: 1, FailureThreshold: 1, ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(1)}}}
	})
	c.when("never", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool { return s.RestartCount >= 1 })
	c.delete("never")
}

func testEnvironment(t *testing.T, c *cluster) {
	ctx := t.Context()
	_, err := c.client.CoreV1().Secrets("default").Create(ctx, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"key": "secret"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.pod("env", func(p *v1.Pod) {
		a := &p.Spec.Containers[0]
		a.Env = []v1.EnvVar{
			{Name: "MAP", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "m"}, Key: "key"}}},
			{Name: "SECRET", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Key: "key"}}},
			{Name: "NAME", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			{Name: "BOTH", Value: "$(NAME)+$(FROM)+$$(X)"},
			{Name: "PORT", Value: "8080"},
		}
		a.EnvFrom = []v1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "m"}}}}
		a.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/etc/config"}}
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "m"}}}}}
	})
	c.when("env", "waiting for the ConfigMap", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		w := s.State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `configmaps "m" not found`)
	})
	if _, err := c.client.CoreV1().ConfigMaps("default").Create(ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"key": "map"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := c.when("env", "ready", ready)
	for k, want := range map[string]string{"MAP": "map", "SECRET": "secret", "NAME": "env", "BOTH": "env+image+$(X)", "P_key": "map", "FROM": "image"} {
		if got := ask(t, p, "/env?"+k); got != want {
			t.Errorf("$%s = %q, want %q", k, got, want)
		}
	}
	if n, err := c.client.CoreV1().Nodes().Get(ctx, "test", metav1.GetOptions{}); err == nil && n.Annotations[node.IsolationAnnotation] != "none" {
		if got := ask(t, p, "/file?/etc/config/key"); got != "map<nil>" {
			t.Errorf("file: %q", got)
		}
	}
	c.delete("env")
}

func testPorts(t *testing.T, c *cluster) {
	const n = 6
	seen := map[string]bool{}
	for i := range n {
		c.pod(fmt.Sprint("port", i), nil)
	}
	for i := range n {
		p := c.when(fmt.Sprint("port", i), "ready", ready)
		seen[p.Annotations[node.PortAnnotation]] = true
	}
	if len(seen) != n {
		t.Errorf("ports %v", seen)
	}
	if d, _ := filepath.Glob(filepath.Join(c.cfg.Data, "images", "sha256-*")); len(d) != 1 {
		t.Errorf("unpacked %v", d)
	}
	for i := range n {
		c.delete(fmt.Sprint("port", i))
	}
}

func testInit(t *testing.T, c *cluster) {
	c.pod("init", func(p *v1.Pod) {
		first := *p.Spec.Containers[0].DeepCopy()
		first.ReadinessProbe = nil
		first.Name, first.Ports, first.Env = "first", nil, []v1.EnvVar{{Name: "EXIT", Value: "0"}}
		p.Spec.InitContainers = []v1.Container{first}
	})
	p := c.when("init", "ready", ready)
	if s := p.Status.InitContainerStatuses[0]; s.State.Terminated == nil || s.State.Terminated.ExitCode != 0 || !s.Ready {
		t.Errorf("%+v", s)
	}
	c.delete("init")
}

// Reported, not judged: from the pod's creation to its IP in the API, and to Ready.
func testLatency(t *testing.T, c *cluster) {
	var ip, answered, isReady []time.Duration
	for i := range 20 {
		name := fmt.Sprint("fast", i)
		w, err := c.client.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		c.pod(name, func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = readiness() })
		writes, seen, served := 0, time.Duration(0), make(chan time.Duration, 1)
		for e := range w.ResultChan() {
			p, ok := e.Object.(*v1.Pod)
			if !ok {
				t.Fatal(e)
			}
			writes++
			if seen == 0 && p.Status.PodIP != "" {
				seen = time.Since(begin)
				ip = append(ip, seen)
				go func() {
					for {
						res, err := http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation])
						if err == nil {
							res.Body.Close()
							served <- time.Since(begin)
							return
						}
					}
				}()
			}
			if len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Ready {
				isReady = append(isReady, time.Since(begin))
				break
			}
		}
		w.Stop()
		answered = append(answered, <-served)
		if i == 0 {
			t.Logf("%d states of the pod until it was ready", writes)
		}
		c.delete(name)
	}
	mid := func(d []time.Duration) time.Duration {
		slices.Sort(d)
		return d[len(d)/2].Round(100 * time.Microsecond)
	}
	t.Logf("from create to: IP in the API %v, answers %v, Ready %v (median of 20)", mid(ip), mid(answered), mid(isReady))
}

func testKilled(t *testing.T, c *cluster) {
	c.pod("stays", func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = readiness() })
	c.pod("goes", nil)
	c.pod("dies", nil)
	p := c.when("stays", "ready", ready)
	gone := c.when("goes", "ready", ready)
	dies := c.when("dies", "ready", ready)
	before := ask(t, p, "/")
	c.killNode()
	if got := ask(t, p, "/"); got != before {
		t.Fatalf("%q became %q", before, got)
	}
	zero := int64(0)
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "goes", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	_, _ = http.Get("http://127.0.0.1:" + dies.Annotations[node.PortAnnotation] + "/die")
	c.startNode()
	// What has ended meanwhile is restarted, what has been deleted is ended.
	c.when("dies", "restarted", func(_ *v1.Pod, s v1.ContainerStatus) bool {
		return s.RestartCount == 1 && s.Ready && s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode == 4
	})
	c.until("the deleted pod's process ended", func() bool {
		_, err := http.Get("http://127.0.0.1:" + gone.Annotations[node.PortAnnotation])
		return err != nil
	})
	c.pod("new", nil)
	fresh := c.when("new", "ready", ready)
	if fresh.Annotations[node.PortAnnotation] == p.Annotations[node.PortAnnotation] {
		t.Error("a port given twice")
	}
	p = c.get("stays")
	if s := p.Status.ContainerStatuses[0]; ask(t, p, "/") != before || s.RestartCount != 0 || !s.Ready || s.State.Running == nil {
		t.Errorf("adopted: %+v", s)
	}
	b, err := c.kubectl("logs", "stays").CombinedOutput()
	if err != nil || string(b) != "serving\n" {
		t.Errorf("logs: %q %v", b, err)
	}
	if _, err := node.Cleanup(t.Context(), c.cfg.Data); err == nil {
		t.Error("cleaned up under a living node")
	}
	c.killNode()
	n, err := node.Cleanup(context.Background(), c.cfg.Data)
	if err != nil || n != 3 {
		t.Errorf("cleaned up %d: %v", n, err)
	}
	if _, err := http.Get("http://127.0.0.1:" + p.Annotations[node.PortAnnotation]); err == nil {
		t.Error("a process has survived")
	}
	if left, _ := os.ReadDir(filepath.Join(c.cfg.Data, "pods")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
