package publish_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/publish"
)

// testBackends: where a host leads, by its names inside the cluster, its external name and a tag's, is told as the traffic changes, and each change is announced.
func testBackends(t *testing.T, config *rest.Config) {
	var mu sync.Mutex
	moved := map[string]int{}
	w := newWorld(t, config, 0, func(o *publish.Options) {
		o.Moved = func(hosts []string) {
			mu.Lock()
			defer mu.Unlock()
			for _, h := range hosts {
				moved[h]++
			}
		}
	})
	one, two := w.revision("hello-00001"), w.revision("hello-00002")
	inside, outside := "hello."+w.namespace+".svc.cluster.local", "hello."+w.namespace+".example.com"
	tag := "new-" + inside
	g := connect(t, w.publisher.Server())
	leads := func(host string, want ...ir.Backend) {
		t.Helper()
		short := func(all []ir.Backend) (out []string) {
			for _, b := range all {
				out = append(out, fmt.Sprintf("%s %d", b.Cluster, b.Weight))
			}
			return out
		}
		g.wait(fmt.Sprintf("%s leads to %v", host, short(want)), func() bool {
			return slices.Equal(short(w.publisher.Backends(host)), short(want))
		})
	}
	announced := func(host string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if moved[host] == 0 {
			t.Errorf("the change of %s is not announced; %v are", host, moved)
		}
		clear(moved)
	}
	leads(inside)
	route := w.route("hello", target(one.Name, 100))
	leads(inside, ir.Backend{Cluster: cluster(one), Weight: 100})
	announced(inside)
	leads(outside, ir.Backend{Cluster: cluster(one), Weight: 100})
	leads(tag)
	tagged := target(two.Name, 25)
	tagged.Tag, tagged.URL = "new", "http://new-hello."+w.namespace+".example.com:8080"
	w.traffic(route, target(one.Name, 75), tagged)
	leads(tag, ir.Backend{Cluster: cluster(two), Weight: 100})
	announced(tag)
	leads(inside, ir.Backend{Cluster: cluster(one), Weight: 75}, ir.Backend{Cluster: cluster(two), Weight: 25})
	w.traffic(route, v1.TrafficTarget{RevisionName: two.Name, Percent: new(int64(100))})
	leads(inside, ir.Backend{Cluster: cluster(two), Weight: 100})
	leads(tag)
	announced(tag)
	w.must(w.Delete(t.Context(), route))
	leads(inside)
	announced(inside)
}
