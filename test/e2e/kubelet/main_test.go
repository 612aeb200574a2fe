package kubelet

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
	"ebb.dev/ebb/test/e2e/steady"
)

var shared platform.Shared

func TestMain(m *testing.M) { shared.Main(m) }

// begin gives a test a namespace on a real cluster.
func begin(t *testing.T) *platform.Namespace {
	t.Helper()
	if os.Getenv(platform.ClusterVariable) == "" {
		t.Skipf("needs a real kubelet: `make test-cluster` runs it ($%s is not set)", platform.ClusterVariable)
	}
	return shared.Platform(t).Namespace(t)
}

func kubectl(t *testing.T, n *platform.Namespace, args ...string) string {
	t.Helper()
	out, errOut, err := n.Command(t.Context(), "", append([]string{"kubectl"}, args...)...)
	if err != nil {
		t.Fatalf("kubectl %s: %v; it printed %s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

// kept has a Service keep so many pods.
func kept(pods string) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.Template.Annotations[serving.MinScaleAnnotation] = pods }
}

const perSecond = 50 // requests; the machine is shared with the whole cluster

// under calls a Service all the time, GET and POST in turn, until the test ends or stop is
// called, which fails the test for each request that failed.
func under(t *testing.T, n *platform.Namespace, service string) (load *steady.Load, stop func()) {
	t.Helper()
	load = steady.Start(n.Dial(platform.External), []steady.Target{{Name: service, GET: n.URL(service, "/"), POST: n.URL(service, "/echo")}}, perSecond)
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		load.Stop()
		for i, f := range load.Failures() {
			if i == 10 {
				t.Errorf("and %d more", len(load.Failures())-i)
				break
			}
			t.Errorf("failed: %s", f)
		}
		c := load.Counts()
		t.Logf("%d requests, %d failed", c.Requests(), c.FailedGET+c.FailedPOST)
	}
	t.Cleanup(stop)
	return load, stop
}

// more waits until a load has so many more answers.
func more(t *testing.T, load *steady.Load, requests int) {
	t.Helper()
	if err := load.Await(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
}

// begun is a request that takes a while; what came of it is on the channel.
func begun(t *testing.T, n *platform.Namespace, service string, d time.Duration) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		a, err := n.Fetch(t.Context(), platform.External, n.URL(service, fmt.Sprintf("/sleep?ms=%d", d.Milliseconds())))
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("it answers %s", a)
		}
		done <- err
	}()
	return done
}

// held is begun of a request that a pod has when it returns. There is to be no other one.
func held(t *testing.T, n *platform.Namespace, service string, d time.Duration) <-chan error {
	t.Helper()
	done := begun(t, n, service, d)
	platform.Until(t, "the request is in a pod", func() error {
		for _, pod := range n.AwaitPods(service, func([]*corev1.Pod) error { return nil }) {
			if pod.DeletionTimestamp == nil && platform.PodReady(pod) && strings.Contains(n.FetchPod(pod, "/counters").Body, `"now":1`) {
				return nil
			}
		}
		return fmt.Errorf("no pod has it")
	})
	return done
}

// process is the one whose command line has a word as its second.
func process(t *testing.T, word string) int {
	t.Helper()
	found, err := processOf(word)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func processOf(word string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if words := strings.Split(string(line), "\x00"); len(words) > 1 && words[1] == word {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process %s: run the tests inside the node (test/cluster.sh run)", word)
}

// killed ends the process of a word with SIGKILL and waits for the next one, which the node starts.
func killed(t *testing.T, word string) {
	t.Helper()
	was := process(t, word)
	if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	platform.Until(t, word+" runs again", func() error {
		now, err := processOf(word)
		if err == nil && now == was {
			err = fmt.Errorf("process %d is still there", was)
		}
		return err
	})
}

// uids of pods, sorted, with how often their containers were started again.
func uids(pods []*corev1.Pod) []string {
	var all []string
	for _, p := range pods {
		restarts := int32(0)
		for _, c := range p.Status.ContainerStatuses {
			restarts += c.RestartCount
		}
		all = append(all, fmt.Sprintf("%s/%d", p.UID, restarts))
	}
	slices.Sort(all)
	return all
}
