package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestMovingFromKnative runs the commands of docs/knative.md as they are written, with
// both contexts at this platform. Between taking and applying, what was taken is deleted.
func TestMovingFromKnative(t *testing.T) {
	n := begin(t)
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skipf("the page's commands need jq: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(platform.Root(), "docs/knative.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)```bash\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, match[1])
	}
	if len(blocks) != 5 {
		t.Fatalf("the page has %d blocks", len(blocks))
	}
	folder := t.TempDir()
	environment := twoContexts(n, folder)
	run := func(script string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir, cmd.Env = folder, environment
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s%s\n%s", err, out, errOut.String(), script)
		}
		return string(out)
	}

	n.DeployAtZero("shop", func(s *v1.Service) {
		s.Annotations = map[string]string{serving.MaxScaleAnnotation: "3", serving.RetryAnnotation: serving.RetryIdempotent}
		s.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100)), Tag: "now"}}
	})
	claim := &v1alpha1.ClusterDomainClaim{}
	claim.Name = n.In + ".example.com"
	claim.Spec.Namespace = n.In
	create(n, claim)
	t.Cleanup(func() { _ = n.Delete(context.Background(), claim) })
	create(n, mapping(n, claim.Name, "shop"))
	awaitMapping(n, claim.Name, mappingReady)
	before := n.AwaitReady("shop")

	if said := run(blocks[0]); said != "Service shop\nDomainMapping "+claim.Name+"\n" {
		t.Errorf("taken are\n%s", said)
	}
	run(blocks[1])
	if said := run(blocks[2]); !strings.Contains(said, "configmap/config-domain serverside-applied (server dry run)\n") {
		t.Errorf("of the settings it says\n%s", said)
	}
	run(`kubectl -n "$NS" delete services.serving.knative.dev,domainmappings.serving.knative.dev --all`)
	if said := run(blocks[3]); !strings.Contains(said, "shop   "+before.Status.URL) {
		t.Errorf("at last it says\n%s", said)
	}
	awaitMapping(n, claim.Name, mappingReady)
	after := n.AwaitReady("shop")
	if after.UID == before.UID || after.Annotations[serving.MaxScaleAnnotation] != "3" || after.Spec.Template.Spec.Containers[0].Image != before.Spec.Template.Spec.Containers[0].Image {
		t.Errorf("the Service moved is %+v", after)
	}
	n.MustFetch(t, after.Status.URL)

	if said := run(blocks[4]); said != "Service shop\n" {
		t.Errorf("taken back are\n%s", said)
	}
	run(`kubectl -n "$NS" delete services.serving.knative.dev --all && kubectl -n "$NS" apply -f back.json`)
	back := n.AwaitReady("shop")
	if _, kept := back.Annotations[serving.MaxScaleAnnotation]; kept || back.Spec.Template.Annotations[serving.MaxScaleAnnotation] != "3" || back.Annotations[serving.RetryAnnotation] != "" {
		t.Errorf("the Service moved back has %v and its template %v", back.Annotations, back.Spec.Template.Annotations)
	}
}

// twoContexts is the environment of somebody with kubectl and two contexts, old and new,
// both of which are the platform.
func twoContexts(n *platform.Namespace, folder string) []string {
	n.Helper()
	config, err := clientcmd.LoadFromFile(n.Running().Kubeconfig)
	if err != nil {
		n.Fatal(err)
	}
	current := config.Contexts[config.CurrentContext]
	config.Contexts = map[string]*clientcmdapi.Context{"old": current, "new": current}
	config.CurrentContext = "new"
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		n.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' kubectl \"$@\"\n", filepath.Join(filepath.Dir(n.Ebb), "ebb-kube"))
	if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte(script), 0o755); err != nil {
		n.Fatal(err)
	}
	return append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "KUBECONFIG="+kubeconfig, "NS="+n.In, "OLD_SYSTEM="+serving.Namespace)
}
