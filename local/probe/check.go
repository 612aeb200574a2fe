package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Ports gives the real port of a container's port (number or name).
type Ports func(intstr.IntOrString) (int, error)

// Exec runs a command in the container; its error is why it is no success.
type Exec func(ctx context.Context, command []string) error

// Check tries the handler once, at host unless it names another; nil is success. It takes at most the context's time.
func Check(ctx context.Context, h v1.ProbeHandler, host string, ports Ports, exec Exec) error {
	switch {
	case h.HTTPGet != nil:
		return checkHTTP(ctx, h.HTTPGet, host, ports)
	case h.TCPSocket != nil:
		port, err := ports(h.TCPSocket.Port)
		if err != nil {
			return err
		}
		if h.TCPSocket.Host != "" {
			host = h.TCPSocket.Host
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return c.Close()
	case h.GRPC != nil:
		return checkGRPC(ctx, h.GRPC, host, ports)
	case h.Exec != nil:
		return exec(ctx, h.Exec.Command)
	}
	return errors.New("a probe without a handler")
}

func checkHTTP(ctx context.Context, g *v1.HTTPGetAction, host string, ports Ports) error {
	req, err := Request(ctx, g, host, ports)
	if err != nil {
		return err
	}
	// A connection of its own each time: a probe asks for a new one too, and
	// certificates of pods are not for this name.
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as a kubelet: a probe asks who answers, not who it is
	c := http.Client{Transport: tr, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() != req.URL.Hostname() {
			return http.ErrUseLastResponse // another host's health is not this container's
		}
		if len(via) > 10 {
			return errors.New("more than 10 redirects")
		}
		return nil
	}}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 10<<10)
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", res.StatusCode)
	}
	return nil
}

// Request makes the request of an httpGet handler, of a probe or of a hook.
func Request(ctx context.Context, g *v1.HTTPGetAction, host string, ports Ports) (*http.Request, error) {
	own := g.Host == ""
	if !own {
		host = g.Host
	}
	port := g.Port.IntValue()
	if own {
		var err error
		if port, err = ports(g.Port); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(g.Path)
	if err != nil {
		u = &url.URL{Path: g.Path}
	}
	u.Scheme = strings.ToLower(string(g.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "kube-probe/1.36")
	req.Header.Set("Accept", "*/*")
	for _, h := range g.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
		} else {
			req.Header.Add(h.Name, h.Value)
		}
	}
	return req, nil
}

func checkGRPC(ctx context.Context, g *v1.GRPCAction, host string, ports Ports) error {
	port, err := ports(intstr.FromInt32(g.Port))
	if err != nil {
		return err
	}
	c, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(host, strconv.Itoa(port)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer c.Close()
	q := &grpc_health_v1.HealthCheckRequest{}
	if g.Service != nil {
		q.Service = *g.Service
	}
	res, err := grpc_health_v1.NewHealthClient(c).Check(ctx, q)
	if err != nil {
		return err
	}
	if res.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", res.Status)
	}
	return nil
}

// Counter applies the thresholds to a row of results.
type Counter struct {
	Success, Failure int // thresholds, at least 1
	last             bool
	row              int
}

// Add takes one result; decided is true when it and those before it pass the threshold.
func (c *Counter) Add(ok bool) (decided bool) {
	if ok != c.last || c.row == 0 {
		c.last, c.row = ok, 0
	}
	c.row++
	if ok {
		return c.row >= max(c.Success, 1)
	}
	return c.row >= max(c.Failure, 1)
}

// Options are those of Run.
type Options struct {
	Spec  *v1.Probe
	Check func(context.Context) error
	// Eager tries every 10 to 50 ms in the first second until the first success
	// (readiness and startup); those failures do not count towards a threshold.
	Eager bool
	// Result is called for each decided result, from Run's goroutine; false ends Run.
	Result func(ok bool, why error) bool
}

// Run probes until the context ends or Result says so.
func Run(ctx context.Context, o Options) {
	period := max(time.Duration(o.Spec.PeriodSeconds)*time.Second, time.Second)
	if o.Spec.PeriodSeconds == 0 {
		period = 10 * time.Second
	}
	timeout := max(time.Duration(o.Spec.TimeoutSeconds)*time.Second, time.Second)
	count := Counter{Success: int(o.Spec.SuccessThreshold), Failure: int(o.Spec.FailureThreshold)}
	if count.Failure == 0 {
		count.Failure = 3
	}
	wait := time.NewTimer(time.Duration(o.Spec.InitialDelaySeconds) * time.Second)
	defer wait.Stop()
	begin := time.Now().Add(time.Duration(o.Spec.InitialDelaySeconds) * time.Second)
	eager, step := o.Eager, 10*time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		try, cancel := context.WithTimeout(ctx, timeout)
		err := o.Check(try)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if eager && (err == nil || time.Since(begin) > time.Second) {
			eager = false
		}
		if !eager || err == nil {
			if count.Add(err == nil) && !o.Result(err == nil, err) {
				return
			}
		}
		switch {
		case eager:
			wait.Reset(step)
			step = min(step+step/4, 50*time.Millisecond)
		case err == nil && o.Eager && count.row < count.Success:
			wait.Reset(10 * time.Millisecond) // several successes wanted: at once
		default:
			wait.Reset(period)
		}
	}
}
