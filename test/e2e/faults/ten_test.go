package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
	"ebb.dev/ebb/test/e2e/steady"
)

var (
	perSecond = flag.Int("rate", 120, "requests a second of the steady load")
	lasting   = flag.Duration("lasting", 3*time.Second, "how long a fault lasts that lasts")
)

const (
	zeros    = 5 // services at zero
	busyLoad = 6 // requests in progress at the service that scales by load
	busyPods = 3 // that these need: the target is 2, of which 70 % are aimed at
)

// ten are the services that faults are about: with one pod, two and three, two revisions with a
// split, one that scales with its load, and five that are at zero, with steady load on all but the last.
type ten struct {
	*world
	load *steady.Load
	gone bool // all pods were, at some time
	next int  // service at zero to be called next
	to   int  // percent of the first revision of the service split

	mu    sync.Mutex
	story []string
	least map[string]int32 // replicas, by service, since the load was steady
}

func newTen(t *testing.T) *ten {
	t.Helper()
	s := &ten{world: newWorld(t), to: 100}
	probed := func(more func(*v1.Service)) func(*v1.Service) {
		return func(service *v1.Service) {
			more(service)
			service.Spec.Template.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/counters", Port: intstr.FromInt32(0)}},
				PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 2,
			}
		}
	}
	for name, change := range map[string]func(*v1.Service){
		"one":   quick("min-scale", "1", "max-scale", "1"),
		"two":   quick("min-scale", "2", "max-scale", "2"),
		"three": probed(quick("min-scale", "3", "max-scale", "3")),
		"busy":  quick("target", "2", "max-scale", "8"),
	} {
		if err := s.Create(t.Context(), s.Service(name, change)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range zeros {
		service := s.Service(fmt.Sprintf("zero-%d", i), quick("initial-scale", "0", "max-scale", "2"))
		if err := s.Create(t.Context(), service); err != nil {
			t.Fatal(err)
		}
	}
	s.two(t, "split")
	s.split(t, "split", s.to)
	for _, name := range s.services() {
		s.AwaitReady(name)
	}
	s.load = steady.Start(s.Dial(platform.External), []steady.Target{s.target("one"), s.target("two"), s.target("three"), s.target("split")}, *perSecond)
	t.Cleanup(s.load.Stop)
	s.load.Loop(steady.Target{Name: "busy", GET: s.URL("busy", "/sleep?ms=200"), POST: s.URL("busy", "/sleep?ms=200")}, busyLoad)
	s.AwaitPods("busy", atLeast(busyPods))
	s.await(t, 100)
	s.watchReplicas(t)
	return s
}

func (s *ten) services() []string {
	all := []string{"one", "two", "three", "split", "busy"}
	for i := range zeros {
		all = append(all, fmt.Sprintf("zero-%d", i))
	}
	return all
}

func (s *ten) target(service string) steady.Target {
	return steady.Target{Name: service, GET: s.URL(service, "/"), POST: s.URL(service, "/echo")}
}

// tell notes what happened, for who has to understand a failure.
func (s *ten) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.story = append(s.story, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// await returns when n more requests have been answered.
func (s *ten) await(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline)
	defer cancel()
	if err := s.load.Await(ctx, n); err != nil {
		t.Fatal(err)
	}
}

// last lets the load go on for as long as a fault lasts.
func (s *ten) last(t *testing.T) { s.await(t, int(lasting.Seconds()*float64(*perSecond))) }

// watchReplicas follows what the Deployments are scaled to, until the test ends.
func (s *ten) watchReplicas(t *testing.T) {
	s.least = map[string]int32{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := map[string]int32{}
		_, _ = platform.Await(ctx, s.Platform, &appsv1.DeploymentList{}, func(all []*appsv1.Deployment) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, d := range all {
				service, n := d.Labels[serving.ServiceLabel], *d.Spec.Replicas
				if was, known := last[d.Name]; known && was == n {
					continue
				}
				last[d.Name] = n
				s.story = append(s.story, fmt.Sprintf("%s %s is scaled to %d", time.Now().Format("15:04:05.000"), d.Name, n))
				if least, known := s.least[service]; !known || n < least {
					s.least[service] = n
				}
			}
			return errors.New("watched until the test ends")
		}, client.InNamespace(s.In))
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// enough fails the test when a Deployment was ever scaled below what its load needs.
func (s *ten) enough(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for service, need := range map[string]int32{"one": 1, "two": 2, "three": 3, "split": 1, "busy": busyPods} {
		if least, known := s.least[service]; !known || least < need {
			t.Errorf("service %s was scaled to %d, its load needs %d", service, least, need)
		}
	}
}

// held are requests to a service at zero.
type held struct {
	service string
	results chan error // one a request
	n       int
}

// callZero sends requests to the next service that has been at zero for the longest.
func (s *ten) callZero(t *testing.T) *held {
	service := fmt.Sprintf("zero-%d", s.next%zeros)
	s.next++
	h := &held{service: service, n: 4, results: make(chan error, 4)}
	s.tell("4 requests to %s, which is at zero", service)
	for i := range h.n {
		go func() {
			h.results <- s.load.Call(context.WithoutCancel(t.Context()), s.target(service), []string{http.MethodGet, http.MethodPost}[i%2])
		}()
	}
	return h
}

// nextAtZero waits until the service that callZero calls next has no pod.
func (s *ten) nextAtZero() { s.AwaitZero(fmt.Sprintf("zero-%d", s.next%zeros)) }

// wait returns when all are answered, with an error for each that was lost.
func (h *held) wait() (lost []error) {
	for range h.n {
		if err := <-h.results; err != nil {
			lost = append(lost, fmt.Errorf("a held request to %s is lost: %w", h.service, err))
		}
	}
	return lost
}

// change gives all traffic of the service split to its other revision and waits until that is in effect.
func (s *ten) change(ctx context.Context) error {
	s.to = 100 - s.to
	want := map[int]string{100: "split-00001 ", 0: "split-00002 "}[s.to]
	o := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.In, Name: "split"}}
	err := again(ctx, func() error { // until it is admitted
		return s.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(splitPatch("split", s.to))))
	})
	if err != nil {
		return fmt.Errorf("change the split: %w", err)
	}
	s.tell("split: the change is admitted")
	err = again(ctx, func() error {
		body, err := s.get(ctx, "split", "/")
		if err == nil && !strings.HasPrefix(body, want) {
			err = fmt.Errorf("answered by %q, want %s", body, want)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("a changed split: %w", err)
	}
	s.tell("split: the change is in effect")
	return nil
}

// again asks every 20 ms until there is no error; when ctx ends it returns the last one.
func again(ctx context.Context, ask func() error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// settled waits until all is as it was: every Service Ready, with the pods it had.
func (s *ten) settled(t *testing.T) {
	t.Helper()
	for _, name := range s.services() {
		s.AwaitReady(name)
	}
	for name, n := range map[string]int{"one": 1, "two": 2, "three": 3, "split": 2} {
		s.pods(name, n, n)
	}
	s.AwaitPods("busy", atLeast(busyPods))
}

// clean ends the load, and fails the test when anything was lost, is not well again, or is left over.
func (s *ten) clean(t *testing.T, faults []fault) {
	t.Helper()
	s.load.Settle()
	s.settled(t)
	if !s.gone {
		s.enough(t)
	}
	s.load.Stop()
	c := s.load.Counts()
	t.Logf("%d GETs, %d POSTs; failed: %d GETs, %d POSTs; %d were not sent", c.GET, c.POST, c.FailedGET, c.FailedPOST, s.load.Skipped())
	outcomes := map[string]int{}
	for _, f := range s.load.Failures() {
		outcomes[fmt.Sprintf("%s %s: %d %s", f.Method, f.Service, f.Status, f.Err)]++
	}
	for _, what := range slices.Sorted(maps.Keys(outcomes)) {
		t.Logf("  %d x %s", outcomes[what], what)
	}
	for _, f := range s.load.Failures() {
		if !slices.ContainsFunc(faults, func(by fault) bool { return by.may(f) }) {
			t.Errorf("failed: %v", f)
		}
	}
	s.AwaitZero("busy")
	for i := range zeros {
		s.AwaitZero(fmt.Sprintf("zero-%d", i))
	}
	until(t, "what has no pod has no process", func() error {
		var pods corev1.PodList
		if err := s.List(t.Context(), &pods); err != nil {
			return err
		}
		folders := s.PodFolders()
		for i := range pods.Items {
			delete(folders, pods.Items[i].UID)
		}
		for uid := range folders {
			return fmt.Errorf("%s has files or processes: %v", uid, processes(string(uid)))
		}
		return nil
	})
	until(t, "every part runs once", func() error {
		for part, pid := range s.Running().Parts {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); pid == 0 || err != nil {
				return fmt.Errorf("%s does not run", part)
			}
		}
		return nil
	})
}

// showOnFailure prints what happened, with the failures, when the test has failed.
func (s *ten) showOnFailure(t *testing.T) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		lines := append([]string{}, s.story...)
		for i, f := range s.load.Failures() {
			if i == 100 {
				break
			}
			lines = append(lines, f.String())
		}
		slices.Sort(lines)
		t.Logf("what happened:\n%s", strings.Join(lines, "\n"))
	})
}
