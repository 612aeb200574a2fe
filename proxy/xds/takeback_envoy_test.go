package xds_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ebb.dev/ebb/proxy/xds"
)

// TestEnvoyTakeBack: what is idle is given up by Envoy, and asked for again.
func TestEnvoyTakeBack(t *testing.T) {
	p := &plane{t: t}
	up := upstream(t, "a")
	p.world = append([]*xds.Resource{theListener(t), theScope(t, "s", "a.test", "r"), theScope(t, "s2", "b.test", "r"), theRoute(t, "r", "c")}, theCluster(t, "c", up)...)
	p.start(xds.Options{})
	_, to := p.envoy()
	ctx := deadline(t)
	c := client(t)
	rk := xds.Key{Type: xds.RouteType, Name: "r"}
	if n := p.TakeBack(rk); n != 0 {
		t.Errorf("taken back from %d streams though nobody has it", n)
	}
	for range 3 {
		for _, host := range []string{"a.test", "b.test"} {
			if code, body := ask(c, to, host); code != 200 {
				t.Fatalf("%s: %d %s", host, code, body)
			}
		}
		until(t, "the acknowledgement", func() bool { return p.TakeBack(rk) == 1 })
		if err := p.AwaitUnused(ctx, append(clusterKeys("c"), rk)...); err != nil {
			t.Fatalf("%v: %+v", err, p.Streams())
		}
	}
	for _, host := range []string{"a.test", "b.test"} {
		if code, body := ask(c, to, host); code != 200 {
			t.Fatalf("%s: %d %s", host, code, body)
		}
	}
	// A restarted server knows the generations and sends nothing.
	p.kill()
	p.start(xds.Options{})
	until(t, "Envoy to come back", func() bool {
		return typeInfo(p.Server, xds.ScopeType).Acked == 2 && typeInfo(p.Server, xds.RouteType).Acked == 1
	})
	if n := p.Sent(); n != 0 {
		t.Errorf("%d responses after a restart of an unchanged world: %+v", n, p.Streams())
	}
	until(t, "the acknowledgement", func() bool { return p.TakeBack(rk) == 1 })
	if err := p.AwaitUnused(ctx, append(clusterKeys("c"), rk)...); err != nil {
		t.Fatalf("%v: %+v", err, p.Streams())
	}
	for _, host := range []string{"a.test", "b.test"} {
		if code, body := ask(c, to, host); code != 200 {
			t.Fatalf("%s: %d %s", host, code, body)
		}
	}
	if o := p.State("r"); o.Pending != 0 || len(o.Rejected) != 0 {
		t.Errorf("state: %+v", o)
	}
}

// TestEnvoyTakeBackUnderLoad takes configuration back as often as it is loaded, while
// many connections of two gateways ask for it without a pause. Nothing
// fails and nothing hangs.
func TestEnvoyTakeBackUnderLoad(t *testing.T) {
	const services = 4
	times := 250 // of each service; $EBB_TAKEBACKS for a longer run
	if n, err := strconv.Atoi(os.Getenv("EBB_TAKEBACKS")); err == nil {
		times = n
	}
	p := &plane{t: t, world: []*xds.Resource{theListener(t)}}
	up := upstream(t, "a")
	for i := range services {
		r, cl := fmt.Sprint("r", i), fmt.Sprint("c", i)
		p.world = append(p.world, theScope(t, r+"/in", fmt.Sprintf("in%d.test", i), r), theScope(t, r+"/out", fmt.Sprintf("out%d.test", i), r), theRoute(t, r, cl))
		p.world = append(p.world, theCluster(t, cl, up)...)
	}
	p.start(xds.Options{})
	_, one := p.envoy("--concurrency", "2")
	_, two := p.envoy()
	stop := make(chan struct{})
	var group sync.WaitGroup
	var asked atomic.Int64
	wrong := make(chan string, 100)
	body := bytes.Repeat([]byte("x"), 64<<10)
	for _, to := range []netip.AddrPort{one, two} {
		for i := range 24 {
			c := client(t)
			group.Go(func() {
				for n := i; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					host := fmt.Sprintf("%s%d.test", []string{"in", "out"}[n%2], (i+n/7)%services)
					method, content := http.MethodGet, io.Reader(nil)
					if n%3 == 0 {
						method, content = http.MethodPost, bytes.NewReader(body)
					}
					begun := time.Now()
					if text := request(c, method, to, host, content); text != "" {
						select {
						case wrong <- fmt.Sprintf("%s %s after %v: %s", method, host, time.Since(begun), text):
						default:
						}
					}
					asked.Add(1)
				}
			})
		}
	}
	taken := 0
	deadline := time.Now().Add(patience + time.Duration(times)*time.Second/10)
	for i := 0; taken < services*times; i++ {
		if n := p.TakeBack(xds.Key{Type: xds.RouteType, Name: fmt.Sprint("r", i%services)}); n > 0 {
			taken += n
		} else {
			time.Sleep(100 * time.Microsecond) // a poll: nothing tells when a client has loaded something
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d: nothing is loaded any more: %+v", taken, services*times, p.Streams())
		}
	}
	close(stop)
	group.Wait()
	close(wrong)
	t.Logf("taken back %d times under %d requests", taken, asked.Load())
	for text := range wrong {
		t.Error(text)
	}
	for i := range services {
		if o := p.State(fmt.Sprint("r", i)); len(o.Rejected) != 0 {
			t.Errorf("state: %+v", o)
		}
	}
}

func request(c *http.Client, method string, to netip.AddrPort, host string, body io.Reader) string {
	req, err := http.NewRequest(method, "http://"+to.String()+"/", body)
	if err != nil {
		return err.Error()
	}
	req.Host = host
	resp, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode, " ", string(text))
	}
	return ""
}
