package eventfaults

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// producers send each its own events, one after the other and each until it is taken: a producer is a partition too.
const producers = 24

var data = bytes.Repeat([]byte("ebb "), 100)

type load struct {
	client   *http.Client
	urls     []string
	pace     time.Duration // of one producer
	taken    atomic.Int64
	numbers  [producers]atomic.Int64 // how many of each were acknowledged
	answers  [600]atomic.Int64
	broken   atomic.Int64 // no answer
	wait     sync.WaitGroup
	mu       sync.Mutex
	failures []string
}

func startLoad(ctx context.Context, urls []string, rate int) *load {
	l := &load{urls: urls, client: &http.Client{
		Timeout:   20 * time.Second, // a store that hangs longer than that gets the event a second time
		Transport: &http.Transport{MaxIdleConnsPerHost: producers},
	}}
	if rate > 0 {
		l.pace = time.Duration(producers) * time.Second / time.Duration(rate)
	}
	for k := range producers {
		l.wait.Go(func() { l.produce(ctx, k) })
	}
	return l
}

func (l *load) produce(ctx context.Context, k int) {
	pace := time.NewTicker(max(l.pace, 1))
	defer pace.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		if !l.send(k, i) {
			return
		}
		l.numbers[k].Add(1)
		l.taken.Add(1)
		if l.pace > 0 {
			<-pace.C
		}
	}
}

// send tries until the event is taken, at one ingress and the other in turn. It is false for an answer that says never to.
func (l *load) send(k, i int) bool {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for try := k; ; try++ {
		status, text := l.post(l.urls[try%len(l.urls)], k, i)
		if status == 0 {
			l.broken.Add(1)
		} else {
			l.answers[status].Add(1)
		}
		switch {
		case status == http.StatusAccepted:
			return true
		case status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout:
			l.mu.Lock()
			l.failures = append(l.failures, fmt.Sprintf("event %d-%d was answered %d: %s", k, i, status, text))
			l.mu.Unlock()
			return false
		}
		<-again.C
	}
}

func (l *load) post(url string, k, i int) (status int, text string) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(data)) //nolint:noctx // it is to be sent to its end; the client has a timeout
	if err != nil {
		return 0, err.Error()
	}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": fmt.Sprintf("%d-%d", k, i), "Ce-Source": "/producers", "Ce-Type": "work",
		"Ce-Partitionkey": fmt.Sprint("k", k), "Content-Type": "text/plain",
	} {
		req.Header.Set(name, value)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (l *load) acknowledged() (numbers [producers]int) {
	for k := range numbers {
		numbers[k] = int(l.numbers[k].Load())
	}
	return numbers
}

// count is how many answers were of a status.
func (l *load) count(status int) int64 { return l.answers[status].Load() }
