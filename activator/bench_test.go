package activator

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"testing"
	"time"

	"ebb.dev/ebb/proxy/link"
)

// BenchmarkForward compares a request through the activator with one through a
// plain httputil.ReverseProxy and with one to the pod itself.
func BenchmarkForward(b *testing.B) {
	pod := app(b, "p1", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	pod.Ready = true
	podURL := fmt.Sprintf("http://%s:%d", pod.GetAddress(), pod.GetPort())
	target, err := url.Parse(podURL)
	if err != nil {
		b.Fatal(err)
	}
	naive := httptest.NewServer(httputil.NewSingleHostReverseProxy(target))
	b.Cleanup(naive.Close)
	c := startControlPlane(b)
	limited := revisionOf(pod)
	limited.ContainerConcurrency = 100
	c.set(limited)
	a := startActivator(b, c)

	for _, x := range []struct {
		name, url string
		h2c       bool
	}{
		{"direct", podURL, false}, {"naive", naive.URL, false},
		{"activator", "http://" + a.Addr().String(), false}, {"activator-h2c", "http://" + a.Addr().String(), true},
	} {
		for _, parallel := range []int{1, 50} {
			b.Run(fmt.Sprintf("%s/%d", x.name, parallel), func(b *testing.B) {
				cl := client(b, x.h2c)
				get := func() {
					req := newRequest(b, a, "GET", "/", nil)
					req.URL, _ = url.Parse(x.url)
					if status, text, _ := do(b, cl, req); status != 200 {
						b.Fatalf("got %d %s", status, text)
					}
				}
				get()
				b.ReportAllocs()
				b.ResetTimer()
				if parallel == 1 {
					for b.Loop() {
						get()
					}
					return
				}
				b.SetParallelism(parallel / runtime.GOMAXPROCS(0))
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						get()
					}
				})
			})
		}
	}
}

// nobody is a reporter that keeps nothing.
type nobody struct{}

func (nobody) activate(*revision) {}
func (nobody) poke(*revision)     {}
func (nobody) share(*link.Share)  {}
func (nobody) waits(string, bool) {}

// BenchmarkAccounting is what a request costs beside HTTP: its place, its pod, its load.
func BenchmarkAccounting(b *testing.B) {
	for _, pods := range []int{1, 100} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			begin := time.Now()
			env := &environment{
				now: func() time.Duration { return time.Since(begin) }, total: &bound{max: 1000}, bytes: &bound{max: 1 << 20},
				metrics: newMetrics(func() int { return 0 }), reporter: nobody{}, member: nobody{}, context: b.Context(), holdTimeout: time.Minute,
			}
			r := newRevision(testCluster, env, 1000)
			var all []*link.Pod
			for i := range pods {
				p := podAt(i + 1)
				p.Ready = true
				all = append(all, p)
			}
			spec := describe(all...)
			spec.ContainerConcurrency = 100
			if err := r.apply(spec); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				var x ticket
				for p.Next() {
					if _, err := r.acquire(b.Context(), &x); err != nil {
						b.Fatal(err)
					}
					r.release(&x, true)
				}
			})
		})
	}
}
