package user

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

var update = flag.Bool("update", false, "write the golden files anew and delete those that nobody compares")

func ptr[T any](v T) *T { return &v }

// world is a service with two revisions and one that cannot get ready.
func world(now time.Time) (*v1.ServiceList, []v1.Revision) {
	meta := func(name string, age time.Duration, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: "default", CreationTimestamp: metav1.NewTime(now.Add(-age)), Labels: labels}
	}
	condition := func(status corev1.ConditionStatus, reason, message string) v1.Conditions {
		return v1.Conditions{{Type: v1.ConditionReady, Status: status, Reason: reason, Message: message}}
	}
	hello := v1.Service{ObjectMeta: meta("hello", 3*time.Hour, nil)}
	hello.Spec.Template.Spec.Containers = []corev1.Container{{Image: "localhost:5000/hello@sha256:abc"}}
	hello.Status.URL, hello.Status.LatestReadyRevisionName = "http://hello.default.localhost:8080", "hello-00002"
	hello.Status.Conditions = condition(corev1.ConditionTrue, "", "")
	hello.Status.Traffic = []v1.TrafficTarget{
		{RevisionName: "hello-00001", Percent: ptr(int64(90)), LatestRevision: ptr(false)},
		{RevisionName: "hello-00002", Percent: ptr(int64(10)), Tag: "next", URL: "http://next-hello.default.localhost:8080", LatestRevision: ptr(false)},
	}
	bad := v1.Service{ObjectMeta: meta("bad", 10*time.Second, nil)}
	bad.Status.Conditions = condition(corev1.ConditionFalse, "RevisionFailed", `Revision "bad-00001" failed with message: exit code 1:`+"\npanic: no configuration.")

	revisions := make([]v1.Revision, 2)
	for i, name := range []string{"hello-00002", "hello-00001"} {
		r := v1.Revision{ObjectMeta: meta(name, time.Duration(i+1)*time.Hour, map[string]string{serving.ServiceLabel: "hello"})}
		r.Spec.Containers = hello.Spec.Template.Spec.Containers
		r.Status.Conditions = condition(corev1.ConditionTrue, "", "")
		r.Status.ActualReplicas, r.Status.DesiredReplicas = ptr(int32(i)), ptr(int32(i))
		revisions[i] = r
	}
	return &v1.ServiceList{Items: []v1.Service{bad, hello}}, revisions
}

func TestOutput(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	compared := map[string]bool{}
	for name, print := range map[string]func(*Session) error{
		"list":      func(s *Session) error { l, _ := world(now); return s.printServices(l, true, now) },
		"revisions": func(s *Session) error { l, r := world(now); return s.printRevisions(r, sharesOf(l), now) },
		"traffic":   func(s *Session) error { l, _ := world(now); return s.printTraffic(&l.Items[1]) },
		"status":    func(s *Session) error { return s.printStatus(platformOfParts()) },
		"cluster":   func(s *Session) error { return s.printStatus(platformOfPods()) },
		"explain":   func(s *Session) error { return s.printExplanation(explained(now), now) },
	} {
		for _, format := range []output.Format{output.Table, output.Wide, output.Name, output.YAML} {
			var out bytes.Buffer
			s := &Session{Namespace: "default", Format: format, Out: &out, Err: &out}
			if err := print(s); err != nil {
				t.Errorf("%s %s: %v", name, format, err)
			}
			file := name
			if format != output.Table {
				file += "." + string(format)
			}
			compared[file+".golden"] = true
			golden(t, file+".golden", out.String())
		}
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		switch path := filepath.Join("testdata", f.Name()); {
		case compared[f.Name()]:
		case *update:
			_ = os.Remove(path)
		default:
			t.Errorf("%s is compared with nothing: delete it (or run with -update)", path)
		}
	}
}

func sharesOf(l *v1.ServiceList) map[string]share {
	all := map[string]share{}
	for i := range l.Items {
		for name, part := range shares(l.Items[i].Status.Traffic) {
			all[name] = part
		}
	}
	return all
}

func platformOfParts() *PlatformStatus {
	return &PlatformStatus{
		Server: "127.0.0.1:30000", Version: "v1.36.3", Gateway: "127.0.0.1:8080", Registry: "localhost:5000",
		Nodes: 1, Services: 2, NotReady: 1, Pods: 1, Isolation: "plain processes of this user, not kept apart (unshare: operation not permitted)",
		Parts: []Part{{Name: "controller", PID: 12, State: "ready", Memory: 80 << 20}, {Name: "etcd", PID: 0, State: "not running"}},
		Controller: json.RawMessage(`{"reporters":[{"Node":"activator-0","Kind":1},{"Node":"gateway-0","Kind":0}],
			"streams":[{"Node":"gateway-0","Role":"gateway","Types":[{"Type":"a","Pending":2},{"Type":"b","Pending":1}],
			"Rejected":[{"Node":"gateway-0","Type":"type.googleapis.com/envoy.config.route.v3.RouteConfiguration","Name":"route/default/hello/1","Message":"no such cluster"}]}]}`),
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}
