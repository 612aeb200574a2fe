package activator

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/ir"
)

// An activator that leaves hands back what waits, by a reset before any answer, and finishes what runs. It does so too
// when the control plane, which has given its pods to others, does not answer.
func TestHandsBack(t *testing.T) {
	for name, x := range map[string]struct {
		h2c, silent bool
	}{"HTTP/1.1": {}, "h2c": {h2c: true}, "no answer": {silent: true}} {
		t.Run(name, func(t *testing.T) {
			h2c := x.h2c
			c := startControlPlane(t)
			c.others, c.silent = 1, x.silent
			running, end := make(chan struct{}), make(chan struct{})
			limited := revisionOf(app(t, "p1", func(http.ResponseWriter, *http.Request) { close(running); <-end }))
			limited.ContainerConcurrency = 1
			c.set(limited)
			a, err := New(Options{Name: "act-1", Listen: "127.0.0.1:0", ControlAddress: c.address, LeaveWait: time.Second, Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.Run(ctx) }()
			c.await(t, "it has joined", func() bool { return len(c.heard) > 0 })
			eventually(t, "and knows it", func() bool { return a.health.joined.Load() })
			first := make(chan int, 1)
			go func() {
				status, _, _ := do(t, client(t, h2c), newRequest(t, a, "GET", "/", nil))
				first <- status
			}()
			<-running
			second := make(chan error, 1)
			go func() {
				res, err := client(t, h2c).Do(newRequest(t, a, "POST", "/", strings.NewReader("body")))
				if err == nil {
					_ = res.Body.Close()
				}
				second <- err
			}()
			eventually(t, "the second one waits", func() bool { return a.metrics.held.Load() == 1 })
			stop()
			if err := <-second; err == nil {
				t.Error("a request that waits was answered, want a reset")
			}
			close(end)
			if status := <-first; status != 200 {
				t.Errorf("a request that runs got %d", status)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// One revision's queue is full, with a pod that is stuck; another one's requests are served, and the first
// one's are refused with the time to come again. So they are when the whole activator is full.
func TestStuckRevisionDelaysNoOther(t *testing.T) {
	c := startControlPlane(t)
	stuck := make(chan struct{})
	defer close(stuck)
	reached := make(chan struct{}, 1000)
	slow := revisionOf(app(t, "p1", func(http.ResponseWriter, *http.Request) { reached <- struct{}{}; <-stuck }))
	slow.ContainerConcurrency = 1
	c.set(slow)
	const other = "rev/default/other/1"
	quick := proto.CloneOf(revisionOf(app(t, "p2", echo)))
	quick.Cluster = other
	c.set(quick)
	third := "rev/default/third/1"
	none := proto.CloneOf(revisionOf())
	none.Cluster = third
	c.set(none)
	a := startActivator(t, c, func(o *Options) { o.MaxHeld, o.MaxHeldTotal = 100, 105; o.ShutdownGrace = time.Millisecond })
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer leave()
	cl := client(t, true)
	hold := func(cluster string, n int) {
		for range n {
			req := newRequest(t, a, "GET", "/", nil).WithContext(ctx)
			req.Header.Set(ir.RevisionHeader, cluster)
			all.Go(func() {
				if res, err := cl.Do(req); err == nil {
					_ = res.Body.Close()
				}
			})
		}
	}
	refused := func(cluster string) {
		t.Helper()
		req := newRequest(t, a, "GET", "/", nil)
		req.Header.Set(ir.RevisionHeader, cluster)
		if status, text, res := do(t, client(t, false), req); status != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(text, "queue is full") {
			t.Errorf("a request too many got %d %q", status, text)
		}
	}
	hold(testCluster, 1)
	<-reached
	hold(testCluster, 100)
	eventually(t, "the queue is full", func() bool { return a.metrics.held.Load() == 100 })
	refused(testCluster)
	for range 50 {
		req := newRequest(t, a, "GET", "/", nil)
		req.Header.Set(ir.RevisionHeader, other)
		if status, text, _ := do(t, cl, req); status != 200 {
			t.Fatalf("another revision got %d %s", status, text)
		}
	}
	hold(third, 5)
	eventually(t, "the activator is full", func() bool { return a.metrics.held.Load() == 105 })
	refused(third)
	leave()
	eventually(t, "those who left have freed their places", func() bool { return a.metrics.held.Load() == 0 && a.table.env.bytes.n.Load() == 0 })
}

// Requests that wait are bounded in the bytes of their headers too.
func TestHeldBytes(t *testing.T) {
	c := startControlPlane(t)
	c.set(revisionOf())
	a := startActivator(t, c, func(o *Options) { o.MaxHeldBytes = 100 << 10 })
	ctx, leave := context.WithCancel(t.Context())
	request := func(ctx context.Context) (int, error) {
		req := newRequest(t, a, "GET", "/", nil).WithContext(ctx)
		req.Header.Set("X-Large", strings.Repeat("x", 40<<10))
		res, err := client(t, false).Do(req)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		return res.StatusCode, nil
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { _, _ = request(ctx) })
	}
	eventually(t, "two wait", func() bool { return a.metrics.held.Load() == 2 })
	if status, err := request(t.Context()); status != 503 {
		t.Errorf("a third one of 40 KiB where 100 are allowed got %d (%v)", status, err)
	}
	leave()
	all.Wait()
	eventually(t, "none waits", func() bool { return a.table.env.bytes.n.Load() == 0 })
	c.set(revisionOf(app(t, "p1", echo)))
	if status, err := request(t.Context()); status != 200 {
		t.Errorf("got %d (%v)", status, err)
	}
}

// counted counts what is taken from it, of a body that does not end.
type counted struct {
	taken atomic.Int64
	stop  <-chan struct{}
}

func (c *counted) Read(p []byte) (int, error) {
	select {
	case <-c.stop:
		return 0, io.EOF
	default:
		c.taken.Add(int64(len(p)))
		return len(p), nil
	}
}

// settles waits until n does not grow any more, or is beyond what buffers hold, and returns it. A machine that
// stands still for a while makes it less, never more.
func settles(n *atomic.Int64) int64 {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for last, same := int64(-1), 0; ; <-tick.C {
		now := n.Load()
		if now > buffersHold {
			return now
		}
		if same++; now != last {
			last, same = now, 0
		}
		if same == 20 {
			return now
		}
	}
}

// buffersHold is more than windows, sockets and copy buffers hold of one body; an activator that read
// on would soon have more.
const buffersHold = 128 << 20

// A body is taken from its sender as fast as its receiver takes it, in both directions, and not at all while a request
// is held.
func TestBackPressure(t *testing.T) {
	for name, h2c := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			c := startControlPlane(t)
			a := startActivator(t, c)
			c.set(revisionOf())
			stop := make(chan struct{})
			up := &counted{stop: stop}
			var down atomic.Int64
			reached := make(chan struct{})
			pod := app(t, "p1", func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodPost {
					close(reached)
					<-stop
					return
				}
				chunk := make([]byte, 64<<10)
				for req.Context().Err() == nil {
					if _, err := w.Write(chunk); err != nil {
						return
					}
					down.Add(int64(len(chunk)))
				}
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := client(t, h2c).Do(newRequest(t, a, http.MethodPost, "/", up)); err == nil {
					_ = res.Body.Close()
				}
			}()
			eventually(t, "it is held", func() bool { return a.metrics.held.Load() == 1 })
			if n := settles(&up.taken); n > buffersHold {
				t.Errorf("%d bytes were taken of a request that is held", n)
			} else {
				t.Logf("%d bytes are taken while it is held", n)
			}
			c.set(revisionOf(pod))
			<-reached
			if n := settles(&up.taken); n > buffersHold {
				t.Errorf("%d bytes were taken for a pod that reads none", n)
			} else {
				t.Logf("%d bytes are taken for a pod that reads none", n)
			}
			close(stop)
			<-done

			res, err := client(t, h2c).Do(newRequest(t, a, http.MethodGet, "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			if n := settles(&down); n > buffersHold {
				t.Errorf("%d bytes were taken from a pod for a client that reads none", n)
			} else {
				t.Logf("%d bytes are taken for a client that reads none", n)
			}
			_ = res.Body.Close()
		})
	}
}

// What came before there was a first stream to the control plane is told when there is one.
func TestSharesAreToldAnew(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	limited := revisionOf(app(t, "p1", echo))
	limited.ContainerConcurrency = 1
	limited.Pods[0].Activator, limited.Pods[0].Turn = a.table.env.self, 41
	c.set(limited)
	if status, _, _ := do(t, client(t, false), newRequest(t, a, "GET", "/", nil)); status != 200 {
		t.Fatalf("got %d", status)
	}
	c.stop()
	c.start(t, c.address)
	c.await(t, "what it has, after the control plane started again", func() bool {
		for _, m := range c.heard {
			for _, s := range m.GetShares() {
				if m.GetHello().GetTurn() == 41 && s.GetPod() == "p1" && s.GetMine() && s.GetTurn() == 41 && m.GetTold() {
					return true
				}
			}
		}
		return false
	})
}
