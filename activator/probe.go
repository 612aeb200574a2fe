package activator

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/link"
)

// target is a pod to be probed.
type target struct {
	endpoint netip.AddrPort
	probe    *link.Probe
	protocol link.Protocol
}

// address is where the probe goes.
func (t target) address() string {
	if p := t.probe.GetPort(); p > 0 && p <= 65535 {
		return netip.AddrPortFrom(t.endpoint.Addr(), uint16(p)).String()
	}
	return t.endpoint.String()
}

// prober asks pods whether they serve. once makes one attempt; it returns nil if
// the pod serves.
type prober struct {
	once    func(ctx context.Context, t target) error
	metrics *metrics
}

// until asks until the pod serves, and returns false when ctx ends first.
func (p prober) until(ctx context.Context, t target) bool {
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
		limit := t.probe.GetTimeout().AsDuration()
		if limit <= 0 {
			limit = time.Second
		}
		attempt, cancel := context.WithTimeout(ctx, limit)
		err := p.once(context.WithValue(attempt, connectTimeoutKey{}, connectTimeout(time.Since(begin))), t)
		cancel()
		if err == nil {
			p.metrics.probesPassed.Inc()
			return ctx.Err() == nil
		}
		p.metrics.probesMissed.Inc()
		timer.Reset(probeDelay(time.Since(begin)))
	}
}

// probeDelay is the pause before the next attempt, by how long the pod is being asked.
func probeDelay(elapsed time.Duration) time.Duration {
	switch {
	case elapsed < 500*time.Millisecond:
		return 10 * time.Millisecond
	case elapsed < 10*time.Second:
		return 50 * time.Millisecond
	default:
		return min(time.Second, elapsed/40)
	}
}

// connectTimeout is short at first: a SYN sent before the pod's network is there
// is lost, and the kernel would send the next one only after a second.
func connectTimeout(elapsed time.Duration) time.Duration {
	switch {
	case elapsed < time.Second:
		return 100 * time.Millisecond
	case elapsed < 10*time.Second:
		return 300 * time.Millisecond
	default:
		return time.Second
	}
}

type connectTimeoutKey struct{}

// netProbe makes probes over the network, each on a connection of its own.
type netProbe struct {
	http1, h2c *http.Transport
}

func newNetProbe() *netProbe {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{}
		d.Timeout, _ = ctx.Value(connectTimeoutKey{}).(time.Duration)
		return d.DialContext(ctx, network, address)
	}
	h1 := &http.Transport{
		DialContext: dial, DisableKeepAlives: true, DisableCompression: true,
		// As a kubelet does: an https probe asks whether the server answers, not who it is.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}
	h2 := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	return &netProbe{http1: h1, h2c: h2}
}

func (n *netProbe) once(ctx context.Context, t target) error {
	switch k := t.probe.GetKind().(type) {
	case *link.Probe_Http:
		return n.http(ctx, t, k.Http)
	case *link.Probe_Grpc:
		return n.grpc(ctx, t, k.Grpc.GetService())
	default:
		return n.tcp(ctx, t)
	}
}

func (n *netProbe) tcp(ctx context.Context, t target) error {
	c, err := n.http1.DialContext(ctx, "tcp", t.address())
	if err != nil {
		return err
	}
	return c.Close()
}

func (n *netProbe) http(ctx context.Context, t target, p *link.Probe_HTTP) error {
	scheme, path := "http://", p.GetPath()
	if p.GetHttps() {
		scheme = "https://"
	}
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+t.address()+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/ebb")
	req.Header.Set("Accept", "*/*")
	for k, v := range p.GetHeaders() {
		if http.CanonicalHeaderKey(k) == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	if p.GetHost() != "" {
		req.Host = p.GetHost()
	}
	transport := n.http1
	if t.protocol == link.Protocol_H2C && !p.GetHttps() && (t.probe.GetPort() == 0 || t.probe.GetPort() == uint32(t.endpoint.Port())) {
		transport = n.h2c
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return errors.New("answered " + res.Status)
	}
	return nil
}

// grpc calls grpc.health.v1.Health/Check, by hand: one call on one connection.
func (n *netProbe) grpc(ctx context.Context, t target, service string) error {
	msg, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg)))
	body := bytes.NewReader(append(frame, msg...))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.address()+grpc_health_v1.Health_Check_FullMethodName, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, err := n.h2c.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return err
	}
	status := res.Trailer.Get("Grpc-Status")
	if status == "" {
		status = res.Header.Get("Grpc-Status")
	}
	if res.StatusCode != http.StatusOK || status != "0" {
		return fmt.Errorf("answered HTTP %d, gRPC status %s", res.StatusCode, strconv.Quote(status))
	}
	var health grpc_health_v1.HealthCheckResponse
	if len(answer) < 5 {
		return errors.New("answered no message")
	}
	if err := proto.Unmarshal(answer[5:], &health); err != nil {
		return err
	}
	if health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("is %s", health.GetStatus())
	}
	return nil
}
