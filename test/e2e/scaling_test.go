package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestScalingOfALiveService: annotations on the Service and on the Revision scale at once and make no revision;
// `ebb explain` says where each setting comes from; the Deployment's template stays.
func TestScalingOfALiveService(t *testing.T) {
	n := begin(t)
	n.Deploy("hello", nil)
	command(t, n, "kubectl", "annotate", "ksvc", "hello", serving.MinScaleAnnotation+"=2")
	n.AwaitReadyPods("hello", 2)
	from := func(setting string) string {
		t.Helper()
		var all struct {
			Revisions []struct {
				Revision string             `json:"revision"`
				Settings []settings.Setting `json:"settings"`
			} `json:"revisions"`
		}
		if err := json.Unmarshal([]byte(command(t, n, "explain", "hello", "-o", "json")), &all); err != nil || len(all.Revisions) != 1 {
			t.Fatalf("explain explains %+v, %v", all, err)
		}
		for _, s := range all.Revisions[0].Settings {
			if s.Name == setting {
				return s.Value + " from " + s.From
			}
		}
		return "nothing"
	}
	for setting, want := range map[string]string{
		"min-scale": "2 from Service hello",
		"window":    "6s from template of Revision hello-00001",
		"max-scale": "0 from default",
	} {
		if got := from(setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
	matches(t, "explain", command(t, n, "explain", "hello"), `(?m)^min-scale +2 +Service hello +autoscaling.knative.dev/min-scale`)
	command(t, n, "kubectl", "annotate", "rev", "hello-00001", serving.MinScaleAnnotation+"=3")
	n.AwaitReadyPods("hello", 3)
	if got := from("min-scale"); got != "3 from Revision hello-00001" {
		t.Errorf("min-scale is %s", got)
	}
	matches(t, "/metrics", page(t, "http://"+n.Running().Controller+"/metrics"),
		`(?m)^ebb_autoscaler_desired_pods\{namespace="`+n.In+`",revision="hello-00001"\} 3$`)
	command(t, n, "kubectl", "annotate", "rev", "hello-00001", serving.MinScaleAnnotation+"-")
	n.AwaitReadyPods("hello", 2)
	command(t, n, "kubectl", "annotate", "ksvc", "hello", serving.MinScaleAnnotation+"-")
	n.AwaitZero("hello")

	var revisions v1.RevisionList
	if err := n.List(t.Context(), &revisions, client.InNamespace(n.In)); err != nil || len(revisions.Items) != 1 {
		t.Errorf("%d revisions, %v", len(revisions.Items), err)
	}
	var d appsv1.Deployment
	if err := n.WithWatch.Get(t.Context(), key(n, "hello-00001-deployment"), &d); err != nil {
		t.Fatal(err)
	}
	if d.Annotations["deployment.kubernetes.io/revision"] != "1" {
		t.Errorf("the pods' template was changed: %v", d.Annotations)
	}
}

// page is what a URL of a part answers.
func page(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := platform.Call(http.DefaultClient, r)
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("GET %s: %s %v", url, answer, err)
	}
	return answer.Body
}

// TestActivatorInThePathByTheService: target-burst-capacity on the Service reaches the gateways without a new revision.
func TestActivatorInThePathByTheService(t *testing.T) {
	n := begin(t)
	n.Deploy("web", func(s *v1.Service) { s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1" })
	via := func(activator bool) {
		t.Helper()
		n.AwaitAnswer(t, platform.External, n.URL("web", "/headers"), func(a platform.Answer) bool {
			// The gateway names the revision's cluster, and an activator takes the name away.
			direct := strings.Contains(a.Body, http.CanonicalHeaderKey(ir.RevisionHeader))
			return a.Status == http.StatusOK && direct != activator
		})
	}
	via(false)
	command(t, n, "kubectl", "annotate", "ksvc", "web", serving.TargetBurstCapacityAnnotation+"=-1")
	via(true)
	command(t, n, "kubectl", "annotate", "ksvc", "web", serving.TargetBurstCapacityAnnotation+"-")
	via(false)
}

// TestClassHPA: Kubernetes scales a revision of that class, Ebb keeps its hands off it, and the class changes without a new revision.
func TestClassHPA(t *testing.T) {
	n := begin(t)
	n.Deploy("web", func(s *v1.Service) {
		s.Spec.Template.Annotations[serving.ClassAnnotation] = serving.ClassHPA
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "2"
	})
	n.AwaitReadyPods("web", 2)
	matches(t, "kubectl get hpa", command(t, n, "kubectl", "get", "hpa", "web-00001", "-o", "jsonpath={.spec.minReplicas} {.spec.scaleTargetRef.name}"), `^2 web-00001-deployment$`)
	n.MustFetch(t, n.URL("web", "/"))
	matches(t, "explain", command(t, n, "explain", "web"), `(?m)^  Kubernetes scales it: .kubectl describe hpa web-00001.`)
	// Kubernetes raises it; Ebb's own autoscaler would have put it back to two.
	command(t, n, "kubectl", "annotate", "ksvc", "web", serving.MinScaleAnnotation+"=3")
	n.AwaitReadyPods("web", 3)

	command(t, n, "kubectl", "annotate", "ksvc", "web", serving.MinScaleAnnotation+"=0", "--overwrite")
	command(t, n, "kubectl", "annotate", "ksvc", "web", serving.ClassAnnotation+"="+serving.ClassKPA)
	n.AwaitZero("web")
	if out := command(t, n, "kubectl", "get", "hpa", "-o", "name"); out != "" {
		t.Errorf("left over: %s", out)
	}
	command(t, n, "kubectl", "annotate", "ksvc", "web", serving.ClassAnnotation+"-")
	n.AwaitReadyPods("web", 1)
	n.MustFetch(t, n.URL("web", "/"))
}
