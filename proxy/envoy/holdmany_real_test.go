package envoy_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"ebb.dev/ebb/proxy/ir"
)

// TestManyWaitBehindDeadPods: every pod refuses connections, and however many requests wait behind them, none is turned away.
func TestManyWaitBehindDeadPods(t *testing.T) {
	const name, many = "rev/t/dead/1", 400
	var waiting atomic.Int32
	all := make(chan struct{})
	holds := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if waiting.Add(1) == many {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "held")
	})
	g := startGateway(t, []ir.VirtualHost{host("dead", ir.Backend{Cluster: name, Weight: 100})},
		cluster{name: name, protocol: ir.HTTP1, pods: pods(refusing(t), refusing(t), refusing(t)), behind: pods(holds)})
	c := g.client(t, g.external)
	var calls sync.WaitGroup
	for i := range many {
		calls.Go(func() {
			method := []string{"GET", "POST"}[i%2]
			if a := ask(t, c, method, "http://dead.test/", nil); a.status != 200 {
				t.Errorf("%s %d: status %d: %s", method, i, a.status, a.body)
				if waiting.Add(1) == many { // it will never arrive
					close(all)
				}
			}
		})
	}
	calls.Wait()
}
