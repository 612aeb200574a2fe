package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// The tests here stop or change the platform as a whole: none runs beside another test.

func TestRestartKeepsServices(t *testing.T) {
	p := shared.Platform(t)
	p.Embedded(t, "it ends `ebb up` and starts it again")
	n := p.Namespace(t)
	deployTwo(n, "kept")
	n.Change("kept", route(percent("kept-00001", 100, ""), percent("kept-00002", 0, "next")))
	before := n.AwaitReady("kept")
	n.DeployAtZero("asleep", nil)
	without := noVolumes(t, n)
	if without == "" {
		claim(t, n, "data")
		n.Deploy("keeper", mounts("data"))
		keep(t, n, "keeper", "kept")
	}

	again := exec.CommandContext(t.Context(), p.Ebb, "up", "--data", p.Data, "--port", "0")
	said, err := again.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "already runs on "+p.Data) || !strings.Contains(string(said), fmt.Sprint(p.Running().PID)) {
		t.Errorf("a second ebb up on the same folder: %v\n%s", err, said)
	}

	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Logf("%s to ebb up", signal)
		was := p.Running()
		said, err := p.Down(signal)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said, "panic:") {
			t.Errorf("it printed\n%s", said)
		}
		if signal == syscall.SIGINT {
			for part, pid := range was.Parts {
				if syscall.Kill(pid, 0) == nil {
					t.Errorf("%s (process %d) outlived ebb up", part, pid)
				}
			}
		}
		if err := p.Up(context.Background()); err != nil {
			t.Fatal(err)
		}
		if now := p.Running(); now.Gateway != was.Gateway || now.Registry != was.Registry {
			t.Errorf("the gateway moved from %s to %s, the registry from %s to %s", was.Gateway, now.Gateway, was.Registry, now.Registry)
		}
		p.AwaitAnswer(t, platform.External, n.URL("kept", "/"), func(a platform.Answer) bool { return a.Body == "kept-00001 one\n" })
		p.AwaitAnswer(t, platform.External, n.URL("next-kept", "/"), func(a platform.Answer) bool { return a.Body == "kept-00002 two\n" })
		p.AwaitAnswer(t, platform.External, n.URL("asleep", "/"), func(a platform.Answer) bool { return a.Revision() == "asleep-00001" })
		if without == "" {
			p.AwaitAnswer(t, platform.External, n.URL("keeper", "/file?name=/data/file"), func(a platform.Answer) bool { return a.Body == "kept" })
		}
		after := n.AwaitReady("kept")
		if after.Status.URL != before.Status.URL || after.UID != before.UID || after.Generation != before.Generation {
			t.Errorf("the Service was %s generation %d, now %s generation %d", before.Status.URL, before.Generation, after.Status.URL, after.Generation)
		}
	}
	n.Change("kept", route(percent("kept-00002", 100, "")))
	n.AwaitReady("kept")
	if a := n.MustFetch(t, n.URL("kept", "/")); a.Body != "kept-00002 two\n" {
		t.Errorf("a change after the restarts leads to %s", a)
	}
}

// TestTwoRoutesWithOneHost: the older one keeps working, the newer one says why it does
// not, and everything else goes on.
func TestTwoRoutesWithOneHost(t *testing.T) {
	p := shared.Platform(t)
	older, newer := p.Namespace(t), p.Namespace(t)
	shortHosts(t, newer)
	older.Deploy("rivals", says("older"))
	is := func(word string) func(platform.Answer) bool {
		return func(a platform.Answer) bool { return a.Status == http.StatusOK && strings.HasSuffix(a.Body, word+"\n") }
	}
	p.AwaitAnswer(t, platform.External, "http://rivals.localhost/", is("older"))

	// Ages are told apart by the second.
	var first v1.Route
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: older.In, Name: "rivals"}, &first); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Unix() <= first.CreationTimestamp.Unix() {
		<-tick.C
	}
	second := newer.Service("rivals", says("newer"))
	if err := p.Create(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	newer.AwaitService("rivals", func(s *v1.Service) error {
		ready := s.Status.Conditions.Get(v1.ServiceRoutesReady)
		if !ready.IsFalse() || !strings.Contains(ready.Message, "rivals.localhost") || !strings.Contains(ready.Message, older.In) {
			return errors.New("RoutesReady does not say who has the host: " + platform.Describe(s.Status.Conditions))
		}
		return nil
	})
	older.AwaitReady("rivals")
	for i, a := range many(t, older, "http://rivals.localhost/", 50, 4) {
		if !is("older")(a) {
			t.Fatalf("answer %d is %s", i, a)
		}
	}
	// The newer one's own names inside are not taken.
	p.AwaitAnswer(t, platform.Internal, newer.InternalURL("rivals", "/"), is("newer"))
	newer.Deploy("neutral", says("neutral"))
	p.AwaitAnswer(t, platform.External, "http://neutral.localhost/", is("neutral"))

	// When the older one goes, the newer one takes the host.
	if err := p.Delete(t.Context(), &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: older.In, Name: "rivals"}}); err != nil {
		t.Fatal(err)
	}
	newer.AwaitReady("rivals")
	p.AwaitAnswer(t, platform.External, "http://rivals.localhost/", is("newer"))
}

// shortHosts leaves the namespace out of hosts until the test ends. It returns, and the test
// ends, when a Service of n has the host that the setting gives it: whoever comes next is served by it.
func shortHosts(t *testing.T, n *platform.Namespace) {
	t.Helper()
	n.DeployAtZero("witness", nil)
	set := func(ctx context.Context, value, host string) {
		settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: "config-network"}}
		if err := n.Patch(ctx, settings, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"data":{"domain-template":%s}}`, value))); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(ctx, platform.Deadline)
		defer cancel()
		_, err := platform.Await(ctx, n, &v1.ServiceList{}, func(services []*v1.Service) error {
			for _, s := range services {
				if at := strings.TrimPrefix(s.Status.URL, "http://"); s.Name == "witness" && at != host && !strings.HasPrefix(at, host+":") {
					return fmt.Errorf("the witness is at %s, not at %s", at, host)
				}
			}
			return nil
		}, client.InNamespace(n.In))
		if err != nil {
			t.Fatal(err)
		}
	}
	set(t.Context(), `"{{.Name}}.{{.Domain}}"`, "witness.localhost")
	t.Cleanup(func() { set(context.Background(), "null", "witness."+n.In+".localhost") })
}
