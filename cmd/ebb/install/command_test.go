package install

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run is the command with arguments that ask no cluster.
func run(args ...string) (string, error) {
	cmd := Command("v1.2.3+dirty")
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.Execute()
	return out.String(), err
}

func TestPrinted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte("{image: {repository: a.example.com/x}, activator: {replicas: 7}, controller: {resources: {requests: {cpu: 300m}}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := run("--dry-run", "--values", file, "--gateway", "nodeport", "--domain", "example.com", "--pull-secret", "s", "--gateway-digest", "sha256:"+strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"image: a.example.com/x/ebb:v1.2.3-dirty\n", "image: a.example.com/x/ebb-gateway@sha256:000", "replicas: 7\n", "cpu: 300m", "memory: 128Mi",
		"type: NodePort", "example.com: \"\"", "- name: s\n", "kind: CustomResourceDefinition",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not in what is printed: %q", want)
		}
	}
	text, err = run("-o", "yaml", "--values", file, "--replicas", "1")
	if err != nil || strings.Contains(text, "replicas: 7") || strings.Count(text, "replicas: 1\n") != 5 {
		t.Errorf("flags do not win: %v", err)
	}
}

func TestFlagsRefused(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(bad, []byte("activator: {replica: 7}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--repository is needed":  {},
		"image.repository:":       {"--repository", "https://a"},
		"--gateway ingress:":      {"--repository", "a/b", "--gateway", "ingress"},
		"controller.replicas: 0":  {"--repository", "a/b", "--replicas", "0"},
		"-o json: yaml":           {"--repository", "a/b", "-o", "json"},
		"unknown field":           {"--values", bad},
		"no such file":            {"--values", bad + ".no"},
		"settings.config-domain:": {"--repository", "a/b", "--domain", "a_b"},
		"image.digests.ebb:":      {"--repository", "a/b", "--digest", "latest"},
	} {
		if _, err := run(append(args, "--dry-run")...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
