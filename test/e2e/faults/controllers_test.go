package faults

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// A platform with two controllers. The one that leads is told to end, and killed, while requests flow and others wait for a
// pod that only a leader can ask for: no request fails, and the other one takes over.
func TestTwoControllers(t *testing.T) {
	shared.Platform(t) // skips where there is none
	p, err := platform.Start(t.Context(), "--controllers", "2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	w := worldOn(t, p)
	w.two(t, "web")
	for i := range 3 {
		w.DeployAtZero(fmt.Sprint("zero-", i), quick())
	}
	load := w.loop(t, "web", "/sleep?ms=5", 10)
	w.await(t, load, 100)
	w.takeOverSendsNothing(t)
	for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		leader := w.leading(t)
		pid := w.Kill(t, leader, signal)
		began := time.Now()
		// Nobody leads now, or the other one does already.
		held := make(chan error)
		for range 5 {
			go func() { held <- w.echo(t.Context(), fmt.Sprint("zero-", i), http.MethodPost, 1000) }()
		}
		for range 5 {
			if err := <-held; err != nil {
				t.Errorf("%s of the leader: a call from zero: %v", signal, err)
			}
		}
		t.Logf("%s of the leader: calls from zero were answered after %s", signal, time.Since(began).Round(10*time.Millisecond))
		w.AwaitPart(t, leader, pid)
		w.leading(t)
		w.await(t, load, 100)
		w.Deploy(fmt.Sprint("after-", i), func(s *v1.Service) { quick()(s) })
	}
	load.stopClean(t)
}

// takeOverSendsNothing: a leader that finds the world as its predecessor left it sends what has changed since.
func (w *world) takeOverSendsNothing(t *testing.T) {
	t.Helper()
	leader := w.leading(t)
	pid := w.Kill(t, leader, syscall.SIGTERM)
	w.AwaitPart(t, leader, pid)
	next := w.leading(t)
	// One change, so that all that the take-over caused lies before its arrival.
	w.split(t, "web", 25)
	w.AwaitReady("web") // acknowledged
	m, err := metricsOf(t.Context(), w.Running().Controllers[next])
	if err != nil {
		t.Fatal(err)
	}
	sent := 0.0
	for name, v := range m {
		if strings.HasPrefix(name, "ebb_xds_resources_total") {
			t.Logf("%s %v", name, v)
			sent += v
		}
	}
	if sent != 1 {
		t.Errorf("%v resources were sent after a take-over and one split change, want 1: the route configuration", sent)
	}
}

// leading waits until exactly one controller leads, with a complete configuration and the gateway and the activator at hand, and
// returns which.
func (w *world) leading(t *testing.T) string {
	t.Helper()
	var leader string
	until(t, "one controller leads", func() error {
		var leaders []string
		for part, address := range w.Running().Controllers {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/status", nil)
			if err != nil {
				return err
			}
			answer, err := platform.Call(http.DefaultClient, r)
			if err == nil && answer.Status == http.StatusOK && strings.Contains(answer.Body, `"Role":"gateway"`) && strings.Contains(answer.Body, `"Lost":false`) {
				leaders = append(leaders, part)
			}
		}
		slices.Sort(leaders)
		if len(leaders) != 1 {
			return errors.New(fmt.Sprint("leading are ", leaders))
		}
		leader = leaders[0]
		return nil
	})
	return leader
}
