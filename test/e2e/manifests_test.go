package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// manifest of a Service of which one part is bad. spec is what follows under spec.
func manifest(name, metadata, spec string) string {
	return "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: " + name + "\n" + metadata + "spec:\n" + spec
}

// TestBadManifestsAreRefused sends every bad manifest of apis/admission to the real API
// server: the error is the one that the golden file has, whole.
func TestBadManifestsAreRefused(t *testing.T) {
	n := begin(t)
	folder := filepath.Join(platform.Root(), "apis/admission/testdata")
	golden, err := os.ReadFile(filepath.Join(folder, "refusals.golden"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for part := range strings.SplitSeq(strings.TrimPrefix(string(golden), "== "), "\n== ") {
		file, want, _ := strings.Cut(strings.TrimSpace(part), "\n")
		text, err := os.ReadFile(filepath.Join(folder, "bad", file))
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, object); err != nil {
			t.Fatal(err)
		}
		if object.GetNamespace() == "" {
			object.SetNamespace(n.In)
		}
		want = strings.ReplaceAll(want, "Route default/", "Route "+n.In+"/")
		want = strings.ReplaceAll(want, "not a whole number 1..", "not a whole number 0..") // initial-scale: this platform allows 0
		if object.GetName() == "" {
			_, want, _ = strings.Cut(want, "(named by the server)")
		} else {
			want = "denied the request: " + want
		}
		err = n.Create(t.Context(), object, client.DryRunAll)
		if err == nil {
			t.Errorf("%s was taken", file)
		} else if !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: the error is\n%s\nwant\n%s", file, err, want)
		}
		count++
	}
	if count < 100 {
		t.Errorf("there are only %d manifests", count)
	}
}

// TestManyMistakes: of an object with thousands of them the answer has a few lines, and
// comes before the API server has waited too long for it.
func TestManyMistakes(t *testing.T) {
	n := begin(t)
	s := n.Service("wrong", func(s *v1.Service) {
		for i := range 5000 {
			s.Spec.Template.Spec.Volumes = append(s.Spec.Template.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("V%d", i)})
		}
	})
	err := n.Create(t.Context(), s, client.DryRunAll)
	if !apierrors.IsInvalid(err) || !strings.HasSuffix(err.Error(), ", and 4980 more") || len(err.Error()) > 16<<10 {
		t.Errorf("the error is %.2000v", err)
	}
}

// TestUnknownFields: kubectl refuses them, warns of them or lets them pass, as it is told
// and as it does for any kind; those within a container Ebb refuses in any case.
func TestUnknownFields(t *testing.T) {
	n := begin(t)
	image := n.Image(t, platform.App)
	pod := "  template:\n    metadata: {annotations: {autoscaling.knative.dev/initial-scale: \"0\"}}\n    spec: {containers: [{image: \"" + image + "\"}]}\n"
	for _, test := range []struct {
		name, manifest, validate string
		taken                    bool
		want                     string
	}{
		{"in the spec", manifest("a", "", "  routing: []\n"+pod), "strict", false, `strict decoding error: unknown field "spec.routing"`},
		{"in the spec", manifest("b", "", "  routing: []\n"+pod), "warn", true, `Warning: unknown field "spec.routing"`},
		{"in the spec", manifest("c", "", "  routing: []\n"+pod), "ignore", true, ``},
		{"in a target", manifest("d", "", pod+"  traffic: [{latestRevision: true, percent: 100, wieght: 1}]\n"), "strict", false, `unknown field "spec.traffic[0].wieght"`},
		{"in the metadata", manifest("e", "  lables: {}\n", pod), "strict", false, `unknown field "metadata.lables"`},
		{"in a container", manifest("f", "", strings.Replace(pod, "image:", "comand: [x], image:", 1)), "strict", false, `spec.template.spec.containers[0].comand: Forbidden: unknown field; did you mean "command"?`},
		{"in a container", manifest("g", "", strings.Replace(pod, "image:", "comand: [x], image:", 1)), "warn", false, `spec.template.spec.containers[0].comand: Forbidden: unknown field; did you mean "command"?`},
		{"in a container", manifest("h", "", strings.Replace(pod, "image:", "comand: [x], image:", 1)), "ignore", false, `spec.template.spec.containers[0].comand: Forbidden: unknown field; did you mean "command"?`},
		{"an annotation", manifest("i", "", strings.Replace(pod, "initial-scale: \"0\"", "initial-scale: \"0\", autoscaling.knative.dev/mim-scale: \"1\"", 1)), "strict", true, `Warning: spec.template.metadata.annotations[autoscaling.knative.dev/mim-scale]: nothing reads this annotation; did you mean "autoscaling.knative.dev/min-scale"?`},
	} {
		t.Run(test.name+", "+test.validate, func(t *testing.T) {
			out, errOut, err := n.Command(t.Context(), test.manifest, "kubectl", "apply", "-n", n.In, "--validate="+test.validate, "-f", "-")
			if (err == nil) != test.taken {
				t.Errorf("taken: %v\n%s%s", err == nil, out, errOut)
			}
			if !strings.Contains(errOut, test.want) || test.want == "" && errOut != "" {
				t.Errorf("it says\n%s\nwant in it\n%s", errOut, test.want)
			}
		})
	}
}

// TestApplyingTwiceIsQuiet: the same manifest again makes no generation and no revision.
func TestApplyingTwiceIsQuiet(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"client side": nil, "server side": {"--server-side"}} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
			text := manifest("same", "", "  template:\n    metadata:\n      annotations:\n        autoscaling.knative.dev/initial-scale: \"0\"\n"+
				"    spec:\n      containers:\n      - image: "+n.Image(t, platform.App)+"\n        env:\n        - name: TARGET\n          value: twice\n")
			apply := func() string {
				out, errOut, err := n.Command(t.Context(), text, append([]string{"kubectl", "apply", "-n", n.In, "-f", "-"}, flags...)...)
				if err != nil || errOut != "" {
					t.Fatalf("apply: %v\n%s%s", err, out, errOut)
				}
				return strings.TrimSpace(out)
			}
			if out := apply(); !strings.Contains(out, "service.serving.knative.dev/same") {
				t.Errorf("first: %q", out)
			}
			first := n.AwaitReady("same")
			// On the client's side kubectl calls it configured: it compares lists with their
			// defaults, and sends a patch that changes nothing. On the server's side the second
			// apply may put the managers, which are sorted by time, in another order.
			apply()
			second := n.AwaitReady("same")
			if first.Generation != second.Generation || !equality.Semantic.DeepEqual(first.Status, second.Status) {
				t.Errorf("applying again made generation %d and status\n%+v\nof generation %d and\n%+v", second.Generation, second.Status, first.Generation, first.Status)
			}
			apply()
			if third := n.AwaitReady("same"); third.ResourceVersion != second.ResourceVersion {
				t.Errorf("applying once more wrote the Service: resource version %s is now %s", second.ResourceVersion, third.ResourceVersion)
			}
			var revisions v1.RevisionList
			if err := n.List(t.Context(), &revisions); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range revisions.Items {
				if r.Namespace == n.In {
					names = append(names, r.Name)
				}
			}
			if fmt.Sprint(names) != "[same-00001]" {
				t.Errorf("revisions are %v", names)
			}
		})
	}
}
