package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/test/bench/figures"
)

// bareEnvoy is the reference: the same Envoy with the least configuration that proxies HTTP. It logs
// no access, as the gateway.
const bareEnvoy = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: app}}]}]}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
  clusters:
  - name: app
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment: {cluster_name: app, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`

// way is one way to a pod of the test program.
type way struct {
	name, address, host string
	pids                map[string]int // the processes on it, without client and pod

	latency  []float64
	p50, p99 []float64 // by round
	rate     []float64
	cpu      map[string]time.Duration // of one connection
	cpuMany  map[string]time.Duration
	requests int // of one connection
	many     int
}

// warm measures a request to one warm pod with no proxy, through a bare Envoy, through the
// gateway, and through the gateway and an activator, in turns.
func (b *bench) warm(ctx context.Context) error {
	if err := b.service(ctx, "warm", withPod); err != nil {
		return err
	}
	held := form{annotations: map[string]string{serving.MinScaleAnnotation: "1", serving.MaxScaleAnnotation: "1", serving.TargetBurstCapacityAnnotation: "-1"}}
	if err := b.service(ctx, "held", held); err != nil {
		return err
	}
	pods, err := b.pods(ctx, "warm")
	if err != nil {
		return err
	}
	if len(pods) != 1 {
		return fmt.Errorf("service warm has %d pods, not 1", len(pods))
	}
	pod := address(&pods[0])
	bare, pid, stop, err := startBare(ctx, pod)
	if err != nil {
		return err
	}
	defer stop()
	gateway := b.running.Parts["gateway"]
	ways := []*way{
		{name: "pod", address: pod, host: host("warm")},
		{name: "envoy", address: bare, host: host("warm"), pids: map[string]int{"envoy": pid}},
		{name: "gateway", address: b.running.Gateway, host: host("warm"), pids: map[string]int{"gateway": gateway}},
		{name: "activator", address: b.running.Gateway, host: host("held"), pids: map[string]int{"gateway": gateway, "activator": b.running.Parts["activator"]}},
	}
	rounds, each, during := 7, 3000, 3*time.Second
	if b.quick {
		rounds, each, during = 3, 1000, 500*time.Millisecond
	}
	defer func() { b.warmFigures(ways) }()
	for round := range rounds + 1 { // the first one warms up
		for i := range ways {
			w := ways[(i+round)%len(ways)] // nobody is always first
			b.progress("round %d of %d: %s", round, rounds, w.name)
			if err := b.measureWay(ctx, w, each, during, round > 0); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	return nil
}

func (b *bench) measureWay(ctx context.Context, w *way, each int, during time.Duration, keep bool) error {
	before := usedBy(w.pids)
	one := load(ctx, w.address, w.host, 1, each, 0)
	between := usedBy(w.pids)
	many := load(ctx, w.address, w.host, 50, 0, during)
	after := usedBy(w.pids)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if through := w.name == "gateway" || w.name == "activator"; through {
		b.count(len(one.took)+one.lost+len(many.took)+many.lost, one.lost+many.lost)
	}
	for _, l := range []loaded{one, many} {
		if l.lost > 0 {
			fmt.Printf("  lost: %d of %d requests, %s: %v\n", l.lost, l.lost+len(l.took), w.name, l.problem)
		}
		if len(l.took) == 0 {
			return l.problem
		}
	}
	if !keep {
		return nil
	}
	w.latency = append(w.latency, one.took...)
	w.p50, w.p99 = append(w.p50, figures.Median(one.took)), append(w.p99, figures.Quantile(one.took, 0.99))
	w.rate = append(w.rate, float64(len(many.took))/many.during.Seconds())
	w.requests, w.many = w.requests+len(one.took), w.many+len(many.took)
	if w.cpu == nil {
		w.cpu, w.cpuMany = map[string]time.Duration{}, map[string]time.Duration{}
	}
	for name := range w.pids {
		w.cpu[name] += between[name] - before[name]
		w.cpuMany[name] += after[name] - between[name]
	}
	return nil
}

func usedBy(pids map[string]int) map[string]time.Duration {
	all := map[string]time.Duration{}
	for name, pid := range pids {
		all[name] = used(pid)
	}
	return all
}

// warmFigures adds what was measured on all ways.
func (b *bench) warmFigures(ways []*way) {
	path := map[string]string{
		"pod": "the pod's own port, no proxy", "envoy": "a bare Envoy with a static configuration, no access log, two workers, in front of the same pod",
		"gateway": "the gateway, two workers, the activator out of the way", "activator": "the gateway and an activator that is held in the way by target-burst-capacity -1",
	}
	const one = "one keep-alive connection, requests one after the other, in rounds that take turns with the other ways"
	const many = "50 keep-alive connections, each with one request at a time, in rounds that take turns with the other ways"
	const cpu = "processor time of the process (its own clock, all threads, what it does in the background included) over the requests of all rounds; "
	envoy := ways[1]
	for _, w := range ways {
		b.sheet.Quantiles("warm."+w.name+"_ms.*", "ms", path[w.name]+"; "+one, w.latency, 50, 90, 99)
	}
	ratio := func(key string, of, to []float64, method string) {
		b.sheet.Quantiles(key, "x", "median of the rounds; "+method, figures.Pairwise(of, to, figures.Over), 50)
	}
	for _, w := range ways[2:] {
		key := "warm."
		if w.name == "activator" {
			key = "warm.activator."
		}
		ratio(key+"p50_ratio", w.p50, envoy.p50, "p50 of a round by way of "+path[w.name]+", over that of "+path["envoy"]+"; "+one)
		ratio(key+"p99_ratio", w.p99, envoy.p99, "p99 of a round by way of "+path[w.name]+", over that of "+path["envoy"]+"; "+one)
	}
	for _, w := range ways {
		b.sheet.Quantiles("throughput."+w.name+"_rps", "requests/s", "median of the rounds; "+path[w.name]+"; "+many, w.rate, 50)
	}
	ratio("throughput.ratio", ways[2].rate, envoy.rate, "requests a second through "+path["gateway"]+", over those through "+path["envoy"]+"; "+many)
	ratio("throughput.activator.ratio", ways[3].rate, envoy.rate, "requests a second through "+path["activator"]+", over those through "+path["envoy"]+"; "+many)
	for _, c := range []struct {
		key, how string
		cpu      func(*way) map[string]time.Duration
		requests func(*way) int
	}{
		{"warm.", one, func(w *way) map[string]time.Duration { return w.cpu }, func(w *way) int { return w.requests }},
		{"throughput.", many, func(w *way) map[string]time.Duration { return w.cpuMany }, func(w *way) int { return w.many }},
	} {
		each := func(w *way, process string) float64 {
			return float64(c.cpu(w)[process]) / float64(time.Microsecond) / float64(c.requests(w))
		}
		key := c.key + "cpu_us_per_request."
		b.add(key+"envoy", "µs", each(envoy, "envoy"), c.requests(envoy), cpu+path["envoy"]+"; "+c.how)
		b.add(key+"gateway", "µs", each(ways[2], "gateway"), c.requests(ways[2]), cpu+path["gateway"]+"; "+c.how)
		b.add(key+"ratio", "x", each(ways[2], "gateway")/each(envoy, "envoy"), 0, "the gateway's over the bare Envoy's; "+cpu+c.how)
		key = c.key + "activator.cpu_us_per_request."
		b.add(key+"gateway", "µs", each(ways[3], "gateway"), c.requests(ways[3]), cpu+path["activator"]+"; "+c.how)
		b.add(key+"activator", "µs", each(ways[3], "activator"), c.requests(ways[3]), cpu+"the activator itself; "+c.how)
	}
}

// startBare starts the reference in front of a pod, and returns where it listens and its process id.
func startBare(ctx context.Context, pod string) (string, int, func(), error) {
	_, port, err := net.SplitHostPort(pod)
	if err != nil {
		return "", 0, nil, err
	}
	free, err := freePort()
	if err != nil {
		return "", 0, nil, err
	}
	pid, stop, err := startEnvoy(ctx, fmt.Appendf(nil, bareEnvoy, free, port), "2")
	if err != nil {
		return "", 0, nil, err
	}
	at := fmt.Sprintf("127.0.0.1:%d", free)
	err = until(ctx, "the bare Envoy answers", 10*time.Millisecond, func() (bool, error) {
		a := ask(ctx, at, "bare")
		return a.ok(), a.err
	})
	if err != nil {
		stop()
		return "", 0, nil, err
	}
	return at, pid, stop, nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// startEnvoy runs the Envoy that `ebb envoy` names with a configuration, until stop is called.
func startEnvoy(ctx context.Context, config []byte, workers string) (pid int, stop func(), err error) {
	envoy, err := exec.CommandContext(ctx, "bin/ebb", "envoy").Output()
	if err != nil {
		return 0, nil, fmt.Errorf("ebb envoy: %w", err)
	}
	folder, err := os.MkdirTemp("", "ebb-bench-envoy-")
	if err != nil {
		return 0, nil, err
	}
	file := filepath.Join(folder, "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return 0, nil, err
	}
	cmd := exec.Command(strings.TrimSpace(string(envoy)), "--config-path", file, "--use-dynamic-base-id", "--log-level", "error", "--concurrency", workers)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(folder)
	}, nil
}
