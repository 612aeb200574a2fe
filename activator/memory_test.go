package activator

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ebb.dev/ebb/proxy/ir"
)

// heldAtMost is what a held request may cost, its connection included: 20,000 of them fit
// into a process of 1 GB, with as much again to spare.
const heldAtMost = 32 << 10 // bytes

// TestHeldMemory holds 20,000 requests that come as gateways send them, on few connections of HTTP/2, and fewer that have a
// connection of HTTP/1.1 each, and asks the runtime what they cost. The other end is in the same process and counts too.
func TestHeldMemory(t *testing.T) {
	for _, x := range []struct {
		name string
		n    int
		hold func(testing.TB, *Activator, int) (let func())
	}{{"HTTP/2", 20_000, holdHTTP2}, {"HTTP/1.1", 2_000, holdHTTP1}} {
		t.Run(x.name, func(t *testing.T) {
			if each := heldCost(t, x.n, x.hold); each > heldAtMost {
				t.Errorf("%d held requests cost %.0f bytes each, at most %d are allowed", x.n, each, heldAtMost)
			} else {
				t.Logf("%d held requests cost %.0f bytes each", x.n, each)
			}
		})
	}
}

// BenchmarkHeld reports the memory of a request that waits for a pod, heap and stacks: B/held.
func BenchmarkHeld(b *testing.B) {
	for name, hold := range map[string]func(testing.TB, *Activator, int) func(){"HTTP2": holdHTTP2, "HTTP1": holdHTTP1} {
		for _, n := range []int{2_000, 20_000} {
			if name == "HTTP1" && n > 2_000 {
				continue // two descriptors each in one process
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				for b.Loop() {
					b.ReportMetric(heldCost(b, n, hold), "B/held")
				}
			})
		}
	}
}

// heldCost is the growth of heap and stacks, in bytes a request, while n are held.
func heldCost(t testing.TB, n int, hold func(testing.TB, *Activator, int) func()) float64 {
	c := startControlPlane(t)
	a := startActivator(t, c, func(o *Options) { o.MaxHeld, o.MaxHeldTotal = n, n })
	c.set(revisionOf())
	before := memory()
	let := hold(t, a, n)
	eventually(t, "all held", func() bool { return a.metrics.held.Load() == int64(n) })
	after := memory()
	let()
	eventually(t, "none held", func() bool { return a.metrics.inProgress.Load() == 0 })
	return float64(int64(after)-int64(before)) / float64(n)
}

// memory is what the heap and the stacks hold, in bytes.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func holdHTTP1(t testing.TB, a *Activator, n int) (let func()) {
	conns := make([]io.Closer, 0, n)
	text := "GET / HTTP/1.1\r\nHost: a\r\nX-Ebb-Revision: " + testCluster + "\r\nUser-Agent: bench\r\n" + strings.Repeat("X-Header-Of-Some-Length: value\r\n", 8) + "\r\n"
	for range n {
		conn := dial(t, a)
		_, _ = io.WriteString(conn, text)
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

// holdHTTP2 writes the frames itself: a client with a goroutine for each request would be most of what is measured.
func holdHTTP2(t testing.TB, a *Activator, n int) (let func()) {
	const streams = 1000 // a connection, as the activator allows
	var conns []net.Conn
	for n > 0 {
		conn := dial(t, a)
		conns = append(conns, conn)
		framer := http2.NewFramer(conn, conn)
		_, _ = io.WriteString(conn, http2.ClientPreface)
		_ = framer.WriteSettings()
		for settings := false; !settings; { // the activator's, and nothing else before a request
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
				_ = framer.WriteSettingsAck()
				settings = true
			}
		}
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for i := range min(streams, n) {
			block.Reset()
			for _, h := range [][2]string{
				{":method", "GET"}, {":scheme", "http"}, {":path", fmt.Sprint("/", i)}, {":authority", "hello.default.example.com"},
				{ir.RevisionHeader, testCluster}, {"user-agent", "bench"}, {"x-forwarded-for", "10.0.0.1"}, {"x-forwarded-proto", "http"},
				{"x-request-id", fmt.Sprintf("00000000-0000-0000-0000-%012d", i)}, {"x-header-of-some-length", strings.Repeat("v", 100)},
			} {
				_ = encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
			}
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
		}
		n -= min(streams, n)
	}
	return func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}
