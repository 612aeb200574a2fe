package demo

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// get makes one GET; an answer other than 200 is an error.
func get(ctx context.Context, caller *http.Client, url string) (time.Duration, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	began := time.Now()
	response, err := caller.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	took := time.Since(began)
	body := strings.TrimSpace(string(text))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return took, body, err
}

const failuresKept = 100

// load is a number of clients that call without a pause until they are told to stop;
// a call in progress is finished first.
type load struct {
	halt    chan struct{}
	clients sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed []error
	called chan struct{} // closed and replaced after each call
}

func startLoad(ctx context.Context, caller *http.Client, url string, clients int) *load {
	l := &load{halt: make(chan struct{}), called: make(chan struct{})}
	for range clients {
		l.clients.Go(func() {
			for {
				select {
				case <-l.halt:
					return
				case <-ctx.Done():
					return
				default:
				}
				_, _, err := get(ctx, caller, url)
				if ctx.Err() != nil {
					return
				}
				l.mu.Lock()
				l.sent++
				if err != nil && len(l.failed) < failuresKept {
					l.failed = append(l.failed, err)
				}
				close(l.called)
				l.called = make(chan struct{})
				l.mu.Unlock()
			}
		})
	}
	return l
}

// more waits for n further calls.
func (l *load) more(ctx context.Context, n int) error {
	goal := -1
	for {
		l.mu.Lock()
		sent, next := l.sent, l.called
		l.mu.Unlock()
		if goal < 0 {
			goal = sent + n
		}
		if sent >= goal {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *load) stop() (sent int, failed []error) {
	close(l.halt)
	l.clients.Wait()
	return l.sent, l.failed
}

// binomialBounds hold for all but about one of a million series of n draws with chance p.
func binomialBounds(n int, p float64) (low, high int) {
	mean, deviation := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	return int(math.Floor(mean - 5*deviation)), int(math.Ceil(mean + 5*deviation))
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
