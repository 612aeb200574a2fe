package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// command runs a command of ebb, or kubectl, in the test's namespace; it must succeed.
func command(t *testing.T, n *platform.Namespace, args ...string) string {
	t.Helper()
	out, errOut, err := n.Command(t.Context(), "", append(args, "-n", n.In)...)
	if err != nil {
		t.Fatalf("%s: %v; it printed %s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

// refused runs a command that must fail and returns what it says.
func refused(t *testing.T, n *platform.Namespace, args ...string) string {
	t.Helper()
	out, errOut, err := n.Command(t.Context(), "", append(args, "-n", n.In)...)
	if err == nil {
		t.Fatalf("%s was taken: %s%s", strings.Join(args, " "), out, errOut)
	}
	return errOut
}

func matches(t *testing.T, what, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s printed\n%s\nwhich does not match %s", what, text, pattern)
	}
}

// TestCommands is a user's way through a Service's life with ebb alone.
func TestCommands(t *testing.T) {
	n := begin(t)
	image := n.Image(t, platform.App)
	out := command(t, n, "deploy", "shop", "--image", image, "--env", "TARGET=one", "--min-scale", "1")
	matches(t, "deploy", out, `^http://shop\.`+n.In+`\.localhost(:\d+)?\n$`)
	out = command(t, n, "deploy", "shop", "--env", "TARGET=two", "--tag", "next")
	matches(t, "deploy", out, `^http://shop\.`)
	matches(t, "list", command(t, n, "list"), `(?m)^NAME +URL +LATEST +READY +AGE\nshop +http://shop\S+ +shop-00002 +True +\d+s$`)
	out = command(t, n, "revisions", "shop")
	matches(t, "revisions", out, `(?m)^shop-00002 +shop +100% +next +True +1/1 `)
	matches(t, "revisions", out, `(?m)^shop-00001 +shop +0% +<none> +True `)

	out = command(t, n, "traffic", "shop", "shop-00001=90", "shop-00002=10")
	matches(t, "traffic", out, `(?m)^shop-00001 +90%`)
	matches(t, "traffic", out, `(?m)^shop-00002 +10%`)
	matches(t, "traffic", out, `next +http://next-shop\.`)
	if out := command(t, n, "traffic", "shop"); !strings.Contains(out, "90%") {
		t.Errorf("traffic printed\n%s", out)
	}
	command(t, n, "traffic", "shop", "--to-latest")
	out = command(t, n, "traffic", "shop", "--rollback")
	matches(t, "rollback", out, `(?m)^shop-00001 +100%`)
	if a := n.MustFetch(t, n.URL("shop", "/")); a.Body != "shop-00001 one\n" {
		t.Errorf("after the rollback it answers %s", a)
	}
	matches(t, "traffic", refused(t, n, "traffic", "shop", "shop-00001=90"), `the percents add up to 90, not 100`)
	matches(t, "traffic", refused(t, n, "traffic", "shop", "shop-00009=100"), `service shop has no revision "shop-00009"; it has shop-00002, shop-00001`)

	out = command(t, n, "describe", "shop")
	for _, pattern := range []string{`Name: +shop\n`, `URL: +http://shop\.`, `In the cluster: +http://shop\.` + n.In + `\.svc\.cluster\.local`, `TARGET=two`, `Ready +True`, `shop-00001 +shop +100%`, `POD +READY`} {
		matches(t, "describe", out, pattern)
	}
	var s v1.Service
	if err := json.Unmarshal([]byte(command(t, n, "describe", "shop", "-o", "json")), &s); err != nil || s.Name != "shop" || s.Kind != "Service" {
		t.Errorf("describe -o json gives %s %s, %v", s.Kind, s.Name, err)
	}
	matches(t, "logs", command(t, n, "logs", "shop", "--revision", "shop-00001"), `shop-00001 listens on \S*:\d+`)

	var pods corev1.PodList
	if err := n.List(t.Context(), &pods, client.InNamespace(n.In), client.MatchingLabels{serving.RevisionLabel: "shop-00001"}); err != nil || len(pods.Items) == 0 {
		t.Fatalf("%d pods of shop-00001, %v", len(pods.Items), err)
	}
	matches(t, "kubectl logs", command(t, n, "kubectl", "logs", pods.Items[0].Name), `shop-00001 listens on \S*:\d+`)
	matches(t, "kubectl get", command(t, n, "kubectl", "get", "ksvc"), `(?m)^shop +http://shop\S+ +shop-00002 +shop-00002 +True`)

	out, errOut, err := n.Command(t.Context(), "", "status")
	if err != nil {
		t.Fatalf("status: %v %s", err, errOut)
	}
	parts := platform.Parts()
	if n.Running().Eventing != "" {
		parts = append(parts, "eventing", "nats")
	}
	for _, part := range parts {
		if n.OnCluster() {
			break // it has no processes to show
		}
		matches(t, "status", out, `(?m)^`+part+` +(ready|running) +[1-9]\d* +[1-9]\d* MB$`)
	}

	matches(t, "describe", refused(t, n, "describe", "nothing"), `service "nothing" is not in namespace `+n.In+": `ebb list` shows what is there")
	matches(t, "deploy", refused(t, n, "deploy", "Shop_2", "--image", image), `cannot be a service's name.*for example "shop-2"`)
	matches(t, "deploy", refused(t, n, "deploy", "shop", "--image", image, "--concurrency", "-1"), `containerConcurrency`)
	matches(t, "deploy", refused(t, n, "deploy", "shop", "--env", "FAIL_AT_START=no luck today"), `(?s)cannot get ready: .*no luck today.*ebb logs shop`)
	matches(t, "delete", command(t, n, "delete", "shop", "--wait"), `service "shop" deleted`)
	if err := n.List(t.Context(), &pods, client.InNamespace(n.In)); err != nil || len(pods.Items) > 0 {
		t.Errorf("after delete --wait there are %d pods, %v", len(pods.Items), err)
	}
	_, errOut, err = n.Command(t.Context(), "", "list", "-n", n.In)
	if err != nil || !strings.Contains(errOut, "No services in namespace "+n.In) {
		t.Errorf("list of nothing says %q, %v", errOut, err)
	}
}
