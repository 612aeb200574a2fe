package activator

import (
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/xds"
)

// observed keeps what the autoscaler would hear.
type observed struct {
	mu  sync.Mutex
	all []intake.Observation
}

func (o *observed) Observe(all []intake.Observation) {
	o.mu.Lock()
	o.all = append(o.all, all...)
	o.mu.Unlock()
}

func (o *observed) any(ok func(intake.Observation) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.all {
		if ok(x) {
			return true
		}
	}
	return false
}

// An activator with the product's own discovery server and load intake.
func TestWithTheControlPlanesServers(t *testing.T) {
	discovery := xds.New(xds.Options{Logger: quiet()})
	heard := &observed{}
	loads := intake.New(intake.Options{Sink: heard, Logger: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	discovery.Register(server)
	loads.Register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { discovery.Close(); server.Stop() })
	update := func(r *link.Revision) {
		t.Helper()
		res, err := xds.NewResource(r.GetCluster(), r)
		if err != nil {
			t.Fatal(err)
		}
		discovery.Update([]*xds.Resource{res}, nil)
	}
	update(revisionOf())
	discovery.Open()

	a := startActivator(t, &controlPlane{address: l.Addr().String()})
	answer := make(chan int, 1)
	go func() {
		status, _, _ := do(t, client(t, false), newRequest(t, a, "GET", "/", nil))
		answer <- status
	}()
	eventually(t, "the held request in the intake", func() bool {
		return heard.any(func(o intake.Observation) bool { return o.Cluster == testCluster })
	})
	update(revisionOf(app(t, "p1", echo)))
	if status := <-answer; status != 200 {
		t.Errorf("got %d", status)
	}
	none := newRequest(t, a, "GET", "/", nil)
	none.Header.Set("X-Ebb-Revision", "rev/default/none/1")
	if status, text, _ := do(t, client(t, false), none); status != 404 {
		t.Errorf("a revision that does not exist got %d %s, want 404", status, text)
	}
	discovery.Update(nil, []xds.Key{{Type: link.RevisionType, Name: testCluster}})
	eventually(t, "the revision's removal", func() bool {
		r, _ := a.table.lookup(testCluster)
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.refused != nil && r.refused.status == 404
	})
	update(revisionOf(app(t, "p1", echo)))
	eventually(t, "its return", func() bool {
		status, _, _ := do(t, client(t, false), newRequest(t, a, "GET", "/", nil))
		return status == 200
	})
}
