package steady

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"
)

// Target is a service that is called. It has to echo the body of a POST.
type Target struct{ Name, GET, POST string }

// Failure is a request whose answer was not the one wanted.
type Failure struct {
	Began, Ended    time.Time
	Service, Method string
	Status          int // 0: no answer
	Err             string
}

func (f Failure) String() string {
	return fmt.Sprintf("%s +%v %s %s: %d %s", f.Began.Format("15:04:05.000"), f.Ended.Sub(f.Began).Round(time.Millisecond), f.Method, f.Service, f.Status, f.Err)
}

// Counts are of requests that have ended.
type Counts struct{ GET, POST, FailedGET, FailedPOST int }

// Sub is what was counted since before.
func (c Counts) Sub(before Counts) Counts {
	return Counts{c.GET - before.GET, c.POST - before.POST, c.FailedGET - before.FailedGET, c.FailedPOST - before.FailedPOST}
}

// Requests is how many there were in all.
func (c Counts) Requests() int { return c.GET + c.POST }

const (
	patience   = 3 * time.Minute // for one request
	bodySize   = 10_000
	inProgress = 4000 // requests at most; a machine that is too busy gets fewer
	tick       = 5 * time.Millisecond
)

// Load is traffic that goes on until Stop. Safe for concurrent use.
type Load struct {
	client  *http.Client
	targets []Target
	body    []byte
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu       sync.Mutex
	ended    sync.Cond
	number   int
	open     map[int]string // requests in progress: the service, by number
	counts   Counts
	by       map[string]Counts
	failures []Failure
	skipped  int
}

// Start begins to send perSecond requests in all to the targets in turn.
func Start(dial func(context.Context, string, string) (net.Conn, error), targets []Target, perSecond int) *Load {
	l := &Load{
		client:  &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 1000, DisableCompression: true}},
		targets: targets, body: bytes.Repeat([]byte("0123456789"), bodySize/10), open: map[int]string{}, by: map[string]Counts{},
	}
	l.ended.L = &l.mu
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(func() { l.send(perSecond) })
	return l
}

func (l *Load) send(perSecond int) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began, sent := time.Now(), 0
	for {
		select {
		case <-l.ctx.Done():
			return
		case now := <-ticker.C:
			for due := int(now.Sub(began).Seconds() * float64(perSecond)); sent < due; sent++ {
				target := l.targets[sent%len(l.targets)]
				method := []string{http.MethodGet, http.MethodPost}[sent/len(l.targets)%2]
				l.mu.Lock()
				full := len(l.open) >= inProgress
				if full {
					l.skipped++
				}
				l.mu.Unlock()
				if !full {
					l.work.Go(func() { _ = l.Call(context.Background(), target, method) })
				}
			}
		}
	}
}

// afterFailure is how long a caller of Loop waits before its next request.
const afterFailure = 100 * time.Millisecond

// Loop keeps n more requests in progress, until Stop.
func (l *Load) Loop(target Target, n int) {
	for i := range n {
		l.work.Go(func() {
			for number := i; l.ctx.Err() == nil; number++ {
				if l.Call(context.Background(), target, []string{http.MethodGet, http.MethodPost}[number%2]) != nil {
					select {
					case <-l.ctx.Done():
					case <-time.After(afterFailure):
					}
				}
			}
		})
	}
}

// Call sends one request, counts it, and says what was wrong with its answer.
func (l *Load) Call(ctx context.Context, target Target, method string) error {
	l.mu.Lock()
	l.number++
	number := l.number
	l.open[number] = target.Name
	l.mu.Unlock()
	began := time.Now()
	status, err := l.call(ctx, target, method)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, number)
	failed := 0
	if err != nil {
		failed = 1
		l.failures = append(l.failures, Failure{began, time.Now(), target.Name, method, status, err.Error()})
	}
	c := Counts{GET: 1, FailedGET: failed}
	if method == http.MethodPost {
		c = Counts{POST: 1, FailedPOST: failed}
	}
	l.counts, l.by[target.Name] = l.counts.add(c), l.by[target.Name].add(c)
	l.ended.Broadcast()
	return err
}

func (c Counts) add(d Counts) Counts {
	return Counts{c.GET + d.GET, c.POST + d.POST, c.FailedGET + d.FailedGET, c.FailedPOST + d.FailedPOST}
}

// errAgain is what a client sees that does not try again: Go's own does, where a connection that
// has been used before ends without an answer.
var errAgain = errors.New("the connection ended without an answer")

func (l *Load) call(ctx context.Context, target Target, method string) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %v", patience))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	tries := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if tries++; tries > 1 {
			stop(errAgain)
		}
	}})
	url, body := target.GET, io.Reader(http.NoBody)
	if method == http.MethodPost {
		url, body = target.POST, bytes.NewReader(l.body)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, err
	}
	response, err := l.client.Do(r)
	if err != nil {
		return 0, cmp.Or(context.Cause(ctx), err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return response.StatusCode, fmt.Errorf("body: %w", cmp.Or(context.Cause(ctx), err))
	case response.StatusCode != http.StatusOK:
		return response.StatusCode, fmt.Errorf("%.200s", text)
	case method == http.MethodPost && target.echoes() && !bytes.Equal(text, l.body):
		return response.StatusCode, fmt.Errorf("%d bytes back of %d", len(text), len(l.body))
	}
	return response.StatusCode, nil
}

func (t Target) echoes() bool { return t.GET != t.POST }

// Counts of all requests that have ended.
func (l *Load) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Of a service.
func (l *Load) Of(service string) Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[service]
}

// Open is how many requests to a service are in progress.
func (l *Load) Open(service string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.open {
		if s == service {
			n++
		}
	}
	return n
}

// Failures are all so far, in the order in which they ended.
func (l *Load) Failures() []Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failures)
}

// Skipped is how many requests were not sent because too many were in progress.
func (l *Load) Skipped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.skipped
}

// Settle returns when every request that has begun by now has ended.
func (l *Load) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.number
	for {
		waiting := false
		for number := range l.open {
			waiting = waiting || number <= last
		}
		if !waiting {
			return
		}
		l.ended.Wait()
	}
}

// Await returns when n more requests have been answered well, or ctx ends.
func (l *Load) Await(ctx context.Context, n int) error {
	defer context.AfterFunc(ctx, func() { l.mu.Lock(); l.ended.Broadcast(); l.mu.Unlock() })()
	l.mu.Lock()
	defer l.mu.Unlock()
	good := func() int { return l.counts.Requests() - l.counts.FailedGET - l.counts.FailedPOST }
	for until := good() + n; good() < until; l.ended.Wait() {
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d requests have been answered: %w", good()-until+n, n, context.Cause(ctx))
		}
	}
	return nil
}

// Stop ends it and returns when every request has ended.
func (l *Load) Stop() {
	l.cancel()
	l.work.Wait()
	l.client.CloseIdleConnections()
}
