package e2e

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// write runs kubectl with a manifest on its standard input.
func write(t *testing.T, n *platform.Namespace, text string, args ...string) (said string, err error) {
	t.Helper()
	out, errOut, err := n.Command(t.Context(), text, append(append([]string{"kubectl"}, args...), "-n", n.In, "-f", "-")...)
	return out + errOut, err
}

func mustWrite(t *testing.T, n *platform.Namespace, text string, args ...string) string {
	t.Helper()
	said, err := write(t, n, text, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return said
}

// runs is a template that answers with a word; more is what follows in its spec.
func runs(n *platform.Namespace, word, more string) string {
	return "  template:\n    metadata: {annotations: {autoscaling.knative.dev/initial-scale: \"0\"}}\n    spec:\n" + more +
		"      containers:\n      - image: " + n.Image(n, platform.App) + "\n        env: [{name: TARGET, value: " + word + "}]\n"
}

// TestSeveralWriters: one Service, written by several programs in the ways there are.
func TestSeveralWriters(t *testing.T) {
	n := begin(t)
	ssa := func(manager string, more ...string) []string {
		return append([]string{"apply", "--server-side", "--field-manager=" + manager}, more...)
	}
	mustWrite(t, n, manifest("shared", "", runs(n, "one", "")), ssa("alice")...)
	n.AwaitReady("shared")

	// Another one writes other fields; a third what the first has.
	mustWrite(t, n, manifest("shared", "  labels: {team: b}\n", "  traffic: [{latestRevision: true, percent: 100, tag: now}]\n"), ssa("bob")...)
	if said, err := write(t, n, manifest("shared", "", runs(n, "two", "")), ssa("carol")...); err == nil ||
		!strings.Contains(said, `conflict with "alice"`) || !strings.Contains(said, ".spec.template.spec.containers") {
		t.Errorf("what alice has: %v\n%s", err, said)
	}
	s := n.AwaitReady("shared")
	if s.Labels["team"] != "b" || s.Status.Traffic[0].Tag != "now" || s.Status.LatestReadyRevisionName != "shared-00001" {
		t.Errorf("after alice and bob: labels %v, status %+v", s.Labels, s.Status)
	}
	// What defaults have filled in is nobody's.
	mustWrite(t, n, manifest("shared", "", runs(n, "one", "      timeoutSeconds: 200\n")), ssa("alice")...)
	mustWrite(t, n, manifest("shared", "", "  template: {spec: {containerConcurrency: 7}}\n"), ssa("bob")...)
	s = n.AwaitReady("shared")
	if spec := s.Spec.Template.Spec; *spec.TimeoutSeconds != 200 || *spec.ContainerConcurrency != 7 {
		t.Errorf("timeout %d, concurrency %d", *spec.TimeoutSeconds, *spec.ContainerConcurrency)
	}
	// Bob's second manifest has no label and no traffic, so they are gone.
	if s.Labels["team"] != "" || len(s.Spec.Traffic) != 1 || s.Spec.Traffic[0].Tag != "" {
		t.Errorf("labels %v, traffic %+v", s.Labels, s.Spec.Traffic)
	}
	mustWrite(t, n, manifest("shared", "", runs(n, "two", "")), ssa("carol", "--force-conflicts")...)
	n.AwaitReady("shared")
	if a := n.MustFetch(t, n.URL("shared", "/")); !strings.HasSuffix(a.Body, " two\n") {
		t.Errorf("after carol took it, it answers %s", a)
	}

	// The whole object, by a client that read it before.
	stale := n.Change("shared", func(s *v1.Service) { s.Labels = map[string]string{"by": "update"} })
	n.Change("shared", func(s *v1.Service) { s.Labels = map[string]string{"by": "another"} })
	stale.Labels["by"] = "stale"
	if err := n.Update(t.Context(), stale); !apierrors.IsConflict(err) {
		t.Errorf("an update of what was read before the last change: %v", err)
	}
	// kubectl reads before it replaces, and a status may be written in between: then it says so and is run again.
	replacement := manifest("shared", "  labels: {by: replace}\n", runs(n, "three", ""))
	said, err := write(t, n, replacement, "replace")
	for err != nil && strings.Contains(said, "(Conflict)") {
		said, err = write(t, n, replacement, "replace")
	}
	if err != nil {
		t.Fatalf("kubectl replace: %v\n%s", err, said)
	}
	s = n.AwaitReady("shared")
	if s.Labels["by"] != "replace" || s.Annotations[serving.CreatorAnnotation] == "" {
		t.Errorf("after replace: labels %v, annotations %v", s.Labels, s.Annotations)
	}
	mustWrite(t, n, manifest("shared", "  labels: {by: apply}\n", runs(n, "four", "")), "apply")
	n.AwaitReady("shared")
	if a := n.MustFetch(t, n.URL("shared", "/")); !strings.HasSuffix(a.Body, " four\n") {
		t.Errorf("at last it answers %s", a)
	}
}

// TestNamedRevisions: a revision's name brought by the user may be used for one content only.
func TestNamedRevisions(t *testing.T) {
	n := begin(t)
	named := func(name, word string) string {
		return manifest("own", "", strings.Replace(runs(n, word, ""), "metadata: {", "metadata: {name: "+name+", ", 1))
	}
	mustWrite(t, n, named("own-blue", "one"), "apply")
	s := n.AwaitReady("own")
	if s.Status.LatestReadyRevisionName != "own-blue" {
		t.Errorf("the revision is %q", s.Status.LatestReadyRevisionName)
	}
	mustWrite(t, n, named("own-blue", "one"), "apply")
	if said, err := write(t, n, named("own-blue", "two"), "apply"); err == nil ||
		!strings.Contains(said, "spec.template.metadata.name") || !strings.Contains(said, "spec.template.spec.containers[0].env[0].value has changed") {
		t.Errorf("another content under the name: %v\n%s", err, said)
	}
	mustWrite(t, n, named("own-green", "two"), "apply")
	n.AwaitReady("own")
	if a := n.MustFetch(t, n.URL("own", "/")); a.Body != "own-green two\n" {
		t.Errorf("it answers %s", a)
	}
}

// TestWithoutAService: a Configuration and Routes to it, called.
func TestWithoutAService(t *testing.T) {
	n := begin(t)
	kind := func(kind, name, spec string) string {
		return "apiVersion: serving.knative.dev/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec:\n" + spec
	}
	mustWrite(t, n, kind("Configuration", "bare", runs(n, "one", ""))+"---\n"+
		kind("Route", "follows", "  traffic: [{configurationName: bare, percent: 100}]\n")+"---\n"+
		kind("Route", "fixed", "  traffic: [{revisionName: bare-00001, percent: 100}, {configurationName: bare, tag: next}]\n"), "apply")
	command(t, n, "kubectl", "wait", "--for=condition=Ready", "--timeout=90s", "configuration.serving.knative.dev/bare", "route.serving.knative.dev/follows", "route.serving.knative.dev/fixed")
	says := func(host, want string) {
		t.Helper()
		n.AwaitAnswer(t, platform.External, n.URL(host, "/"), func(a platform.Answer) bool { return a.Body == want })
		n.AwaitAnswer(t, platform.Internal, n.InternalURL(host, "/"), func(a platform.Answer) bool { return a.Body == want })
	}
	says("follows", "bare-00001 one\n")
	says("fixed", "bare-00001 one\n")
	mustWrite(t, n, kind("Configuration", "bare", runs(n, "two", "")), "apply")
	says("follows", "bare-00002 two\n")
	says("next-fixed", "bare-00002 two\n")
	says("fixed", "bare-00001 one\n")
	command(t, n, "kubectl", "delete", "route.serving.knative.dev/follows")
	n.AwaitAnswer(t, platform.External, n.URL("follows", "/"), func(a platform.Answer) bool { return a.Status == 404 })
	says("fixed", "bare-00001 one\n")
}

// TestGeneratedName: the API server names the Service, after admission has seen it.
func TestGeneratedName(t *testing.T) {
	n := begin(t)
	text := func(metadata string) string {
		return strings.Replace(strings.Replace(manifest("x", "", runs(n, "one", "")), "name: x", "generateName: made-", 1), "metadata: {", "metadata: {"+metadata, 1)
	}
	if said, err := write(t, n, text("name: made-one, "), "create"); err == nil || !strings.Contains(said, "spec.template.metadata.name") {
		t.Errorf("a revision's name for a Service that has none yet: %v\n%s", err, said)
	}
	said := mustWrite(t, n, text(""), "create", "-o", "name")
	_, name, _ := strings.Cut(strings.TrimSpace(said), "/")
	if !strings.HasPrefix(name, "made-") || len(name) != len("made-")+5 {
		t.Fatalf("it is called %q", said)
	}
	n.AwaitReady(name)
	if a := n.MustFetch(t, n.URL(name, "/")); a.Body != name+"-00001 one\n" {
		t.Errorf("it answers %s", a)
	}
}
