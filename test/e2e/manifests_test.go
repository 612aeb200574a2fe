package e2e

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// manifest of a Service of which one part is bad. spec is what follows under spec.
func manifest(name, metadata, spec string) string {
	return "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: " + name + "\n" + metadata + "spec:\n" + spec
}

func template(inside string) string {
	return "  template:\n    spec:\n      containers:\n      - image: registry.example/app\n" + inside
}

// TestBadManifestsAreRefused: each by an error that names the field and says what is right.
func TestBadManifestsAreRefused(t *testing.T) {
	n := begin(t)
	for name, test := range map[string]struct{ manifest, want string }{
		"no image": {
			manifest("bad", "", "  template:\n    spec:\n      containers:\n      - env: []\n"),
			`spec.template.spec.containers[0].image: Required value: name the image to run`,
		},
		"no container": {
			manifest("bad", "", "  template: {}\n"),
			`spec.template.spec.containers: Required value: name at least one container with an image`,
		},
		"mistyped field": {
			manifest("bad", "", template("        comand: [x]\n")),
			`spec.template.spec.containers[0].comand: Forbidden: unknown field; did you mean "command"?`,
		},
		"percents": {
			manifest("bad", "", template("")+"  traffic:\n  - {latestRevision: true, percent: 60}\n  - {revisionName: bad-00001, percent: 30}\n"),
			`spec.traffic: Invalid value: 90: the percents sum to 90 and must sum to 100`,
		},
		"tag twice": {
			manifest("bad", "", template("")+"  traffic:\n  - {latestRevision: true, percent: 100, tag: a}\n  - {revisionName: bad-00001, tag: a}\n"),
			`spec.traffic[1].tag: Invalid value: "a": is the tag of spec.traffic[0] too; a tag is for one target`,
		},
		"percent that is a word": {
			manifest("bad", "", template("")+"  traffic:\n  - {latestRevision: true, percent: ninety}\n"),
			`spec.traffic.percent: Invalid value: is a JSON string and must be a whole number`,
		},
		"concurrency": {
			manifest("bad", "", template("      containerConcurrency: -1\n")),
			`spec.template.spec.containerConcurrency: Invalid value: -1: must be 0..1000`,
		},
		"timeout": {
			manifest("bad", "", template("      timeoutSeconds: 100000\n")),
			`spec.template.spec.timeoutSeconds: Invalid value: 100000: must be 0..600, the most that config-defaults allows`,
		},
		"two ports": {
			manifest("bad", "", template("        ports: [{containerPort: 8080}, {containerPort: 9090}]\n")),
			`spec.template.spec.containers[0].ports: Too many: 2: must have at most 1 item`,
		},
		"reserved variable": {
			manifest("bad", "", template("        env: [{name: PORT, value: \"1\"}]\n")),
			`spec.template.spec.containers[0].env[0].name: Forbidden: PORT is set by Ebb`,
		},
		"two kinds of a probe": {
			manifest("bad", "", template("        readinessProbe: {httpGet: {path: /}, tcpSocket: {}}\n")),
			`spec.template.spec.containers[0].readinessProbe.tcpSocket: Forbidden: the probe has httpGet already; give one`,
		},
		"revision's name": {
			manifest("bad", "", "  template:\n    metadata: {name: other-1}\n    spec: {containers: [{image: registry.example/app}]}\n"),
			`spec.template.metadata.name: Invalid value: "other-1": must begin with "bad-": a Revision's name begins with that of its Configuration`,
		},
		"window": {
			manifest("bad", "", "  template:\n    metadata: {annotations: {autoscaling.knative.dev/window: 1s}}\n    spec: {containers: [{image: registry.example/app}]}\n"),
			`spec.template.metadata.annotations[autoscaling.knative.dev/window]: Invalid value: "1s": is outside 6s..1h0m0s`,
		},
		"scale bounds": {
			manifest("bad", "", "  template:\n    metadata: {annotations: {autoscaling.knative.dev/min-scale: \"5\", autoscaling.knative.dev/max-scale: \"2\"}}\n    spec: {containers: [{image: registry.example/app}]}\n"),
			`spec.template.metadata.annotations[autoscaling.knative.dev/min-scale]: Invalid value: "5": is above max-scale 2`,
		},
		"visibility": {
			manifest("bad", "  labels: {networking.knative.dev/visibility: private}\n", template("")),
			`metadata.labels[networking.knative.dev/visibility]: Unsupported value: "private": supported values: "cluster-local"`,
		},
		"name": {
			manifest(strings.Repeat("a", 70), "", template("")),
			`metadata.name: Invalid value: "` + strings.Repeat("a", 70) + `": must be no more than 63 characters`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, err := n.Command(t.Context(), test.manifest, "kubectl", "apply", "-n", n.In, "-f", "-")
			if err == nil {
				t.Fatalf("it was taken: %s", out)
			}
			if !strings.Contains(errOut, test.want) {
				t.Errorf("the error is\n%s\nwant in it\n%s", errOut, test.want)
			}
		})
	}
	var list v1.ServiceList
	if err := n.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		if s.Namespace == n.In {
			t.Errorf("service %s is there", s.Name)
		}
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
