package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"
	appsv1 "k8s.io/api/apps/v1"

	"ebb.dev/ebb/test/bench/figures"
)

func TestParts(t *testing.T) {
	names := func(parts []part) (all []string) {
		for _, p := range parts {
			all = append(all, p.name)
		}
		return all
	}
	for _, services := range []int{1, 500, 1000, 10_000} {
		for _, p := range table(options{sizes: sizes(services)}) {
			if p.name == "" || p.about == "" || p.do == nil || (p.fresh && p.alone) {
				t.Errorf("%d services: part %+v is not whole", services, p)
			}
		}
	}
	if got := sizes(10_000); !slices.Equal(got, []int{1000, 10_000}) {
		t.Errorf("sizes with 10000: %v", got)
	}
	parts, err := chosen(table(options{sizes: []int{1000}}), []string{"split", "cold"})
	if err != nil || !slices.Equal(names(parts), []string{"cold", "split", "split", "cold"}) {
		t.Errorf("-only split,cold: %v, %v", names(parts), err)
	}
	if _, err := chosen(table(options{}), []string{"cold", "none"}); err == nil || !strings.Contains(err.Error(), "-only none: there is no such part; the parts are create, cold") {
		t.Errorf("-only none: %v", err)
	}
}

func TestTargetsAreForFigures(t *testing.T) {
	groups := []string{"cold_start", "warm", "throughput", "split", "create", "burst", "memory", "lost"}
	for _, target := range targets {
		group, _, _ := strings.Cut(target.Key, ".")
		if !slices.Contains(groups, group) {
			t.Errorf("target %s is for no group of figures", target.Key)
		}
	}
	for _, c := range charts([]int{1000}) {
		if c.Title == "" || len(c.Rows) < 2 {
			t.Errorf("chart %+v compares nothing", c)
		}
	}
}

func TestParseRollup(t *testing.T) {
	r, err := parseRollup([]byte("564fc0a29000-7ffec0cb8000 ---p 00000000 00:00 0   [rollup]\nRss:                2048 kB\nPss:                 512 kB\nPss_Anon:   116 kB\n"))
	if err != nil || r.rss != 2 || r.pss != 0.5 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "Rss: 12 MB\n", "Rss: many kB\n"} {
		if r, err := parseRollup([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, r)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	before := used(pid)
	for sum, n := 0, 0; used(pid) == before; n++ {
		sum += n
	}
	if r, err := residentOf(pid); err != nil || r.rss < r.pss || r.pss <= 0 {
		t.Errorf("this process: %+v, %v", r, err)
	}
}

func TestPages(t *testing.T) {
	all, err := parseMaps([]byte("00400000-00402000 r-xp 00001000 fd:00 77   /bin/ebb\n7f00-8f00 rw-p 00000000 00:00 0 \n"))
	if err != nil || len(all) != 2 || all[0] != (mapping{0x400000, 0x402000, 0x1000, "fd:00/77"}) || all[1].file != "" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, bad := range []string{"00400000-00402000 r-xp\n", "x-00402000 r-xp 0 fd:00 77\n", "2-1 r-xp 0 fd:00 77\n"} {
		if all, err := parseMaps([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, all)
		}
	}
	var p pages
	file, none := mapping{file: "f"}, mapping{}
	p.note(file, pagePresent|pageOfFile, 3)
	p.note(file, pagePresent|pageOfFile, 3) // the same page, of another process
	p.note(file, pagePresent|pageOfFile, 64)
	p.note(file, pagePresent, 5) // its own copy
	p.note(file, 0, 6)
	p.note(none, pagePresent, 0)
	if want := 4 * float64(os.Getpagesize()) / (1 << 20); p.mb() != want {
		t.Errorf("%v MB, want %v", p.mb(), want)
	}
	// This process, twice: its memory of its own counts twice, its program once.
	var once, twice pages
	for _, add := range []*pages{&once, &twice, &twice} {
		if err := add.add(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if once.mb() <= 0 || twice.mb() <= once.mb() || len(once.files) == 0 {
		t.Errorf("once %v MB, twice %v MB", once.mb(), twice.mb())
	}
}

func TestParseRequests(t *testing.T) {
	const metrics = `# HELP apiserver_request_total x
apiserver_request_total{code="201",component="apiserver",dry_run="",group="serving.knative.dev",resource="services",scope="resource",subresource="",verb="POST",version="v1"} 7
apiserver_request_total{code="409",component="apiserver",dry_run="",group="serving.knative.dev",resource="services",scope="resource",subresource="",verb="POST",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="apps",resource="deployments",scope="resource",subresource="scale",verb="PATCH",version="v1"} 2
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="nodes",scope="resource",subresource="",verb="GET",version="v1"} 9
apiserver_request_duration_seconds_count{resource="pods",verb="GET"} 9
`
	got, err := parseRequests([]byte(metrics))
	want := map[string]float64{"POST services.serving.knative.dev": 8, "PATCH deployments.apps/scale": 2}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := parseRequests([]byte(`apiserver_request_total{resource="pods",verb="GET"} much`)); err == nil {
		t.Error("a value that is no number is taken")
	}
}

func TestSettled(t *testing.T) {
	none := int32(0)
	d := &appsv1.Deployment{}
	d.Generation, d.Spec.Replicas = 1, &none
	if settled(d) {
		t.Error("a Deployment that nobody has seen is settled")
	}
	d.Status.ObservedGeneration = 1
	if settled(d) {
		t.Error("a Deployment without conditions is settled")
	}
	d.Status.Conditions = []appsv1.DeploymentCondition{{}}
	if !settled(d) {
		t.Error("a Deployment at zero that was seen is not settled")
	}
	one := int32(1)
	d.Spec.Replicas = &one
	if settled(d) {
		t.Error("a Deployment without its pod is settled")
	}
}

// TestWire asks a real server, which answers well, with an error, with a close, and not at all.
func TestWire(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("K-Revision", r.Host+"-00001")
		switch n := asked.Add(1); {
		case r.URL.Path == "/hangs":
			<-r.Context().Done()
		case n%10 == 3:
			http.Error(w, "no", http.StatusServiceUnavailable)
		case n%10 == 5:
			w.Header().Set("Connection", "close")
			fmt.Fprintln(w, "the last on this connection")
		case n%10 == 7:
			panic(http.ErrAbortHandler)
		default:
			fmt.Fprintln(w, strings.Repeat("x", 1000))
		}
	}))
	defer server.Close()
	at := server.Listener.Addr().String()
	if a := ask(t.Context(), at, "hello"); !a.ok() || a.revision != "hello-00001" {
		t.Errorf("first answer: %+v", a)
	}
	asked.Store(0)
	l := load(t.Context(), at, "hello", 1, 100, 0)
	if len(l.took) != 80 || l.lost != 20 || l.problem == nil {
		t.Errorf("of 100 requests %d were answered and %d lost (%v), want 80 and 20", len(l.took), l.lost, l.problem)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := dial(ctx, at, "hello", "/hangs")
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	cancel()
	if a := w.get(); a.err == nil {
		t.Errorf("a request that was cancelled: %+v", a)
	}
}

// TestWireNobodyThere: requests to a port on which nobody listens are lost, not endless.
func TestWireNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := listener.Addr().String()
	listener.Close()
	if l := load(t.Context(), at, "hello", 2, 3, 0); l.lost != 6 || len(l.took) != 0 {
		t.Errorf("%d lost, %d answered, want 6 and 0", l.lost, len(l.took))
	}
	if took, lost := atOnce(t.Context(), at, "hello", "/", 5, time.Now()); lost != 5 || len(took) != 0 {
		t.Errorf("at once: %d lost, %d answered, want 5 and 0", lost, len(took))
	}
}

func TestCallers(t *testing.T) {
	c := &callers{old: "a", each: make([]caller, 2)}
	for range streak {
		c.each[0].note(true)
		c.each[1].note(true)
	}
	if err := c.await(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	c.each[0].note(false)
	old := c.lastOld()
	for range streak {
		c.each[0].note(false)
		c.each[1].note(false)
	}
	if err := c.await(t.Context(), "b"); err != nil {
		t.Error(err)
	}
	if old.IsZero() || !c.lastOld().Equal(old) {
		t.Errorf("the last answer of the old one is at %v and then at %v", old, c.lastOld())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.each[1].note(true)
	if c.await(ended, "b") == nil {
		t.Error("an old answer does not end the streak")
	}
}

// TestPlane: a change in the world reaches every client of the protocol, by the real
// publisher and discovery server.
func TestPlane(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := newWorld(5)
	defer func() {
		cancel()
		w.stop()
	}()
	if err != nil {
		t.Fatal(err)
	}
	server, at, err := w.serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	g, err := connectGateways(ctx, 3, w.routeName(0), at, insecure.NewCredentials())
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	for i := range 4 {
		began := time.Now()
		w.routes.Modify(w.route(0, 1-i%2))
		err := until(ctx, "all have acknowledged", time.Millisecond, func() (bool, error) {
			last, err := g.last(began)
			return err == nil && last.After(began), err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.last(time.Now()); err == nil || !strings.Contains(err.Error(), "got no change") {
		t.Errorf("with no change since: %v", err)
	}
}

func TestLostAreSummed(t *testing.T) {
	b := &bench{sheet: &figures.Sheet{}}
	b.sumLost()
	if _, ok := b.sheet.Get("lost.total"); ok {
		t.Error("nothing was sent, and there is a figure of it")
	}
	b.count(10, 1)
	b.count(5, 2)
	b.sumLost()
	if f, _ := b.sheet.Get("lost.total"); f.Value != 3 || f.N != 15 {
		t.Errorf("lost.total: %+v", f)
	}
}
