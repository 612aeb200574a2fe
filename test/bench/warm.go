package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// bareEnvoy is the reference: the same Envoy with the least configuration that proxies HTTP.
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

// warm measures a request to one warm pod through the gateway, and beside it the same
// through a bare Envoy and with no proxy, in alternating rounds.
func (b *bench) warm(ctx context.Context) error {
	if err := b.service(ctx, "warm", map[string]string{"autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": "1"}, nil); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := b.List(ctx, &pods, client.InNamespace("default"), client.MatchingLabels{"serving.knative.dev/service": "warm"}); err != nil {
		return err
	}
	if len(pods.Items) != 1 {
		return fmt.Errorf("service warm has %d pods, not 1", len(pods.Items))
	}
	port := pods.Items[0].Annotations["ebb.dev/port"]
	bare, pid, stop, err := startBare(ctx, port)
	if err != nil {
		return err
	}
	defer stop()
	paths := []struct {
		name, address string
		pid           int // of the proxy
	}{
		{"no proxy", "127.0.0.1:" + port, 0}, {"bare Envoy", bare, pid}, {"gateway", b.running.Gateway, b.running.Parts["gateway"]},
	}
	// Many short ones: what else the machine does is then the same for all paths of a round.
	const rounds, requests, during = 40, 400, 400 * time.Millisecond
	latencies := make([][]float64, len(paths))
	throughputs := make([][]float64, len(paths))
	var overLatency, overThroughput, overCPU []float64
	for round := range rounds + 1 {
		p50 := make([]float64, len(paths))
		rate := make([]float64, len(paths))
		cpu := make([]float64, len(paths)) // of the proxy, for one request
		for i, p := range paths {
			samples, err := load(ctx, p.address, 1, requests, 0)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			began, used := time.Now(), cpuOf(p.pid)
			many, err := load(ctx, p.address, 50, 0, during)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if round == 0 {
				continue // warms up
			}
			latencies[i] = append(latencies[i], samples...)
			p50[i] = median(samples)
			rate[i] = float64(len(many)) / time.Since(began).Seconds()
			throughputs[i] = append(throughputs[i], rate[i])
			cpu[i] = float64(cpuOf(p.pid)-used) / float64(len(many))
		}
		if round > 0 {
			overLatency = append(overLatency, p50[2]/p50[1])
			overThroughput = append(overThroughput, rate[2]/rate[1])
			overCPU = append(overCPU, cpu[2]/cpu[1])
		}
	}
	for i, p := range paths {
		b.add("warm, 1 connection, "+p.name, "ms", latencies[i]...)
	}
	b.add("warm p50, gateway over bare Envoy, by round", "x", overLatency...)
	for i, p := range paths {
		b.add("warm, 50 connections, "+p.name, "requests/s", throughputs[i]...)
	}
	b.add("warm throughput, gateway over bare Envoy, by round", "x", overThroughput...)
	b.add("warm processor time of a request, gateway over bare Envoy", "x", overCPU...)
	return nil
}

func median(samples []float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[len(sorted)/2]
}

// load sends requests one after the other on each connection, so many a connection or for so long,
// and returns how long each took in milliseconds.
func load(ctx context.Context, address string, connections, each int, during time.Duration) ([]float64, error) {
	var mu sync.Mutex
	var all []float64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	until := time.Now().Add(during)
	for range connections {
		group.Go(func() {
			transport := &http.Transport{MaxIdleConnsPerHost: 1}
			defer transport.CloseIdleConnections()
			var mine []float64
			for i := 0; (each > 0 && i < each) || (each == 0 && time.Now().Before(until)); i++ {
				request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
				request.Host = "warm.default.localhost"
				began := time.Now()
				response, err := transport.RoundTrip(request)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					response.Body.Close()
					if err == nil && response.StatusCode != http.StatusOK {
						err = fmt.Errorf("answered %s", response.Status)
					}
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				mine = append(mine, milliseconds(time.Since(began)))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return all, nil
}

func startBare(ctx context.Context, app string) (address string, pid int, stop func(), err error) {
	envoy, err := exec.CommandContext(ctx, "bin/ebb", "envoy").Output()
	if err != nil {
		return "", 0, nil, fmt.Errorf("ebb envoy: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", 0, nil, err
	}
	at := listener.Addr().(*net.TCPAddr)
	listener.Close()
	folder, err := os.MkdirTemp("", "ebb-bare-")
	if err != nil {
		return "", 0, nil, err
	}
	file := filepath.Join(folder, "envoy.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, bareEnvoy, at.Port, app), 0o600); err != nil {
		return "", 0, nil, err
	}
	cmd := exec.CommandContext(ctx, strings.TrimSpace(string(envoy)), "--config-path", file, "--use-dynamic-base-id", "--log-level", "error", "--concurrency", "2")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(folder)
	}
	err = until(ctx, "the bare Envoy listens", func() (bool, error) {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			c.Close()
		}
		return err == nil, err
	})
	return at.String(), cmd.Process.Pid, stop, err
}
