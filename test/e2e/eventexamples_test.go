package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"ebb.dev/ebb/test/e2e/platform"
)

// TestEventExamples is the worked example of docs/eventing.md: a function in Go answers an event with another, which one in Python
// answers in turn. The Python source is run by this machine's interpreter, because its image is in a public registry.
func TestEventExamples(t *testing.T) {
	n := beginEvents(t)
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("the example in Python needs it: %v", err)
	}
	manifest, err := os.Open(filepath.Join(platform.Root(), "examples/python/events.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer manifest.Close()
	var source corev1.ConfigMap
	if err := yaml.NewYAMLOrJSONDecoder(manifest, 4096).Decode(&source); err != nil || source.Data["main.py"] == "" {
		t.Fatalf("the manifest does not begin with the source: %v", err)
	}
	function := exec.CommandContext(t.Context(), python, "-c", source.Data["main.py"])
	function.Env = append(os.Environ(), "PORT=0")
	out, err := function.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := function.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = function.Process.Kill(); _ = function.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	port, ok := strings.CutPrefix(strings.TrimSpace(line), "listens on port ")
	if err != nil || !ok {
		t.Fatalf("the function in Python printed %q, %v", line, err)
	}
	sink := platform.NewSink(t, nil)

	command(t, n, "broker", "create", "default")
	command(t, n, "deploy", "orders", "--image", n.Image(t, "examples/orders"))
	command(t, n, "trigger", "create", "orders", "--filter", "type=order.created", "--sink", "ksvc:orders")
	command(t, n, "trigger", "create", "packing", "--filter", "type=order.priced", "--sink", "http://127.0.0.1:"+port)
	command(t, n, "trigger", "create", "packed", "--filter", "type=order.packed", "--sink", sink.URL+"/packed")
	command(t, n, "events", "send", "default", "--type", "order.created", "--id", "1", "--payload", `{"item":"tea","count":25}`)
	sink.Await(t, "/packed", "1/priced/packed")
	if got := sink.Taken("/packed")[0].Body; got != `{"item": "tea", "parcels": 3}` {
		t.Errorf("the last function answers %s", got)
	}
	// What is no order is a dead letter, with the function's own words.
	command(t, n, "events", "send", "default", "--type", "order.created", "--payload", `{"item":"tea","count":0}`)
	platform.Until(t, "the dead letter", func() error {
		out := command(t, n, "events", "dead-letters", "list", "default", "--trigger", "orders")
		if !strings.Contains(out, `data has to be like {"item": "tea", "count": 2}`) {
			return errMissing(out)
		}
		return nil
	})
}

// TestEventingDocument runs the commands of docs/eventing.md as they are written.
func TestEventingDocument(t *testing.T) {
	n := beginEvents(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skipf("the page's commands need it: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(platform.Root(), "docs/eventing.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```bash\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 7 {
		t.Fatalf("the page has %d blocks", len(blocks))
	}
	// ebb and kubectl for this platform and namespace.
	folder := t.TempDir()
	for name, program := range map[string]string{
		"ebb":     fmt.Sprintf("exec '%s' \"$@\" --data '%s' -n %s\n", n.Ebb, n.Data, n.In),
		"kubectl": fmt.Sprintf("exec '%s' kubectl --kubeconfig '%s' -n %s \"$@\"\n", filepath.Join(filepath.Dir(n.Ebb), "ebb-kube"), n.Running().Kubeconfig, n.In),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+program), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i, block := range blocks {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", block[1])
		cmd.Dir, cmd.Env = platform.Root(), append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("block %d: %v\n%s\n%s", i+1, err, block[1], out)
		}
		if strings.Contains(block[1], "curl") {
			matches(t, "curl", string(out), `202 Accepted`)
		}
	}
}

type errMissing string

func (e errMissing) Error() string { return "it is not there; list prints " + string(e) }
