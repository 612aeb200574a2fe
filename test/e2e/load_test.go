package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"ebb.dev/ebb/test/e2e/platform"
)

// load calls a URL from several callers until it is stopped.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	count    int
	failures []string
	by       map[string]int // answers by revision
	changed  chan struct{}  // closed and replaced with each answer
}

func startLoad(t *testing.T, n *platform.Namespace, url string, callers int) *load {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &load{cancel: cancel, by: map[string]int{}, changed: make(chan struct{})}
	c := n.Client(platform.External)
	for range callers {
		l.done.Go(func() {
			for ctx.Err() == nil {
				// A request that has begun is let end: only its own failure counts.
				r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url, nil)
				if err != nil {
					l.note(platform.Answer{}, err)
					return
				}
				l.note(platform.Call(c, r))
			}
		})
	}
	t.Cleanup(func() {
		l.stop()
		c.CloseIdleConnections()
	})
	return l
}

func (l *load) note(a platform.Answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	switch {
	case err != nil:
		l.failures = append(l.failures, err.Error())
	case a.Status != http.StatusOK:
		l.failures = append(l.failures, a.String())
	default:
		l.by[a.Revision()]++
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// await waits until holds is true of the answers so far.
func (l *load) await(t *testing.T, what string, holds func(count int, by map[string]int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline)
	defer cancel()
	for {
		l.mu.Lock()
		held, changed := holds(l.count, l.by), l.changed
		state := fmt.Sprint(l.by)
		l.mu.Unlock()
		if held {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s: not in time; answers by revision: %s", what, state)
		}
	}
}

// stop ends the load; it returns the number of answers by revision and every failure.
func (l *load) stop() (map[string]int, []string) {
	l.cancel()
	l.done.Wait()
	return l.by, l.failures
}

// check stops the load and fails the test if a request failed.
func (l *load) check(t *testing.T) map[string]int {
	t.Helper()
	by, failures := l.stop()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, the first with %s", len(failures), l.count, failures[0])
	}
	t.Logf("%d requests, by revision %v", l.count, by)
	return by
}

// many sends count requests from callers at once and returns the answers; any failure
// fails the test.
func many(t *testing.T, n *platform.Namespace, url string, count, callers int) []platform.Answer {
	t.Helper()
	c := n.Client(platform.External)
	defer c.CloseIdleConnections()
	answers := make([]platform.Answer, count)
	errs := make([]error, count)
	next := make(chan int)
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for i := range next {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					errs[i] = err
					continue
				}
				if answers[i], err = platform.Call(c, r); err == nil && answers[i].Status != http.StatusOK {
					err = fmt.Errorf("%s", answers[i])
				}
				errs[i] = err
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	group.Wait()
	failed := 0
	for _, err := range errs {
		if err != nil {
			if failed++; failed == 1 {
				t.Errorf("GET %s: %v", url, err)
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d requests failed", failed, count)
	}
	return answers
}
