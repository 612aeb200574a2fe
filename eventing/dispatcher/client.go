package dispatcher

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

const (
	idleConnections = 128 // kept for each host
	idleTimeout     = 30 * time.Second
	drainBytes      = 64 << 10 // of an answer nobody wants, read so that its connection stays
)

// clients are the ways to send. plain has small events to http targets, which are nearly all; the rest goes by Go's client, one for each
// set of certificate authorities: https is HTTP/2 where the server has it. How many connections there are is bounded by the windows of the lanes and the
// dispatcher's budget, so that no lane waits for a connection of another.
type clients struct {
	options Options
	plain   plain

	mu    sync.Mutex
	by    map[string]*client // by the PEM of the authorities
	users map[*client]int    // endpoints
}

type client struct{ http.RoundTripper }

// endpoint makes a target ready; one that cannot be used says so for every event. release it.
func (c *clients) endpoint(t plan.Target) (*endpoint, error) {
	ep := &endpoint{Target: t}
	u, err := url.Parse(t.URL)
	switch {
	case err != nil:
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		err = fmt.Errorf("%q is not the URL of an HTTP server", delivery.Redact(t.URL))
	}
	if err == nil {
		ep.parsed = u
		ep.client, err = c.client(t.CACerts)
		if proxy, _ := c.proxy(&http.Request{URL: u}); u.Scheme == "http" && proxy == nil {
			ep.plain = newPlainTarget(u)
		}
	}
	ep.failed = err
	return ep, err
}

func (c *clients) client(authorities string) (*client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	there := c.by[authorities]
	if there == nil {
		pool, err := roots(authorities)
		if err != nil {
			return nil, err
		}
		there = &client{c.transport(pool)}
		c.by[authorities] = there
	}
	c.users[there]++
	return there, nil
}

// roots are the system's with these, as PEM; nil: the system's.
func roots(authorities string) (*x509.CertPool, error) {
	if authorities == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(authorities)) {
		return nil, errors.New("CACerts has no certificate in PEM")
	}
	return pool, nil
}

// release lets go of an endpoint's connections when nobody else sends that way.
func (c *clients) release(endpoints ...*endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ep := range endpoints {
		if ep == nil || ep.client == nil {
			continue
		}
		if c.users[ep.client]--; c.users[ep.client] == 0 {
			delete(c.users, ep.client)
			delete(c.by, ep.CACerts)
			closeIdle(ep.client)
		}
	}
}

func (c *clients) close() {
	c.plain.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, there := range c.by {
		closeIdle(there)
	}
}

func closeIdle(c *client) {
	if t, is := c.RoundTripper.(*http.Transport); is {
		t.CloseIdleConnections()
	}
}

func (c *clients) transport(pool *x509.CertPool) *http.Transport {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // by ALPN, so for https only
	return &http.Transport{
		Proxy:                  c.proxy,
		DialContext:            c.dial,
		TLSClientConfig:        &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}
}

func (c *clients) proxy(r *http.Request) (*url.URL, error) {
	if _, here := c.elsewhere("tcp", r.URL.Host); here || c.inCluster(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

func (c *clients) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if other, is := c.elsewhere(network, address); is {
		address = other
	}
	return c.options.Dial(ctx, network, address)
}

// elsewhere is where a host is dialled, when that is not by its name.
func (c *clients) elsewhere(_, address string) (string, bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, ""
	}
	for _, name := range []string{address, host} {
		if other, is := c.options.Hosts[name]; is {
			return other, true
		}
	}
	if c.options.ClusterLocal != "" && port != "443" && c.inCluster(host) {
		return c.options.ClusterLocal, true
	}
	return "", false
}

func (c *clients) inCluster(host string) bool {
	return strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc."+c.options.ClusterDomain)
}

// answer is what came back.
type answer struct {
	delivery.Answer
	reply *event.Event
	body  []byte // of a failure, its beginning
	err   error  // why there is no answer, or what is wrong with the reply
}

// failure is the answer as a dead letter has it.
func (a *answer) failure(ep *endpoint) delivery.Failure {
	f := delivery.Failure{Destination: ep.URL, Code: a.Status, Body: a.body, Err: a.err}
	if a.Reply == delivery.BadEvent && a.err != nil {
		f.Code, f.Body = http.StatusBadGateway, []byte("the reply is not an event: "+a.err.Error())
	}
	return f
}

// send is one attempt.
func (d *Dispatcher) send(ctx context.Context, owner plan.Reference, ep *endpoint, e *event.Event, timeout time.Duration, wantReply bool) answer {
	if ep.failed != nil {
		return answer{err: ep.failed}
	}
	extra := make([]header, 0, 4)
	if wantReply {
		extra = append(extra, header{"Prefer", "reply"})
	}
	if ep.Audience != "" && d.options.Token != nil {
		token, err := d.options.Token(ctx, owner, ep.Audience)
		if err != nil {
			return answer{err: fmt.Errorf("token for %s: %w", ep.Audience, err)}
		}
		extra = append(extra, header{"Authorization", "Bearer " + token})
	}
	extra, finish := d.trace(ctx, owner, ep, e, extra)
	var a answer
	if ep.plain != nil && !ep.structured && d.clients.plain.fits(e) {
		deadline := time.Time{}
		if timeout > 0 {
			deadline = time.Now().Add(timeout)
		}
		a = d.clients.plain.post(ctx, ep.plain, e, extra, deadline, func(resp *http.Response) answer { return d.read(resp, wantReply) })
	} else {
		a = d.exchange(ctx, ep, e, extra, timeout, wantReply)
	}
	finish(a)
	return a
}

// header is one that is not of the event.
type header struct{ name, value string }

var (
	userAgent      = []string{"ebb-dispatcher"}
	structuredMode = []string{"application/cloudevents+json; charset=utf-8"}
)

// exchange is an attempt by Go's HTTP client.
func (d *Dispatcher) exchange(ctx context.Context, ep *endpoint, e *event.Event, extra []header, timeout time.Duration, wantReply bool) answer {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	header := make(http.Header, 16)
	data := e.Data
	if ep.structured {
		var err error
		if data, err = e.MarshalJSON(); err != nil {
			return answer{err: fmt.Errorf("write the event as JSON: %w", err)}
		}
		header["Content-Type"] = structuredMode
	} else {
		e.ToHTTP(header)
	}
	for _, h := range extra {
		header[h.name] = []string{h.value}
	}
	// The transport may send again what a server that was about to close a kept connection did not take. No header is sent.
	header["Idempotency-Key"] = nil
	header["User-Agent"] = userAgent
	req := (&http.Request{
		Method: http.MethodPost, URL: ep.parsed, Host: ep.parsed.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if u := ep.parsed.User; u != nil && header["Authorization"] == nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	if len(data) > 0 {
		req.ContentLength = int64(len(data))
		req.Body = newBody(data)
		req.GetBody = func() (io.ReadCloser, error) { return newBody(data), nil }
	} else {
		req.Body = http.NoBody
	}
	resp, err := ep.client.RoundTrip(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	return d.read(resp, wantReply)
}

func (d *Dispatcher) read(resp *http.Response, wantReply bool) (a answer) {
	a.Status = resp.StatusCode
	a.RetryAfter = delivery.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	if a.Accepted() {
		if !wantReply || a.Status == http.StatusAccepted || a.Status == http.StatusNoContent || !event.Carried(resp.Header) {
			drain(resp.Body)
			return a
		}
		limit := d.options.MaxReplyBytes
		if resp.ContentLength > int64(limit) {
			a.Reply, a.err = delivery.BadEvent, errReplyTooLarge
			return a
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
		switch {
		case err != nil:
			// The subscriber has said that it has the event, and not what it replies: ask again.
			return answer{err: fmt.Errorf("read the reply: %w", err)}
		case len(body) > limit:
			a.Reply, a.err = delivery.BadEvent, errReplyTooLarge
			return a
		}
		a.reply, a.err = replyOf(resp.Header, body, limit)
		if a.Reply = delivery.OneEvent; a.err != nil {
			a.Reply = delivery.BadEvent
		}
		return a
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, delivery.MaxErrorBody))
	if err == nil {
		drain(resp.Body)
	}
	a.body = body
	return a
}

var errReplyTooLarge = errors.New("it is larger than is allowed")

func replyOf(header http.Header, body []byte, limit int) (*event.Event, error) {
	events, err := event.FromHTTP(header, body, event.Limits{EventBytes: limit, AttributeBytes: event.DefaultLimits.AttributeBytes, Batch: 1})
	switch {
	case err != nil:
		return nil, err
	case len(events) != 1:
		return nil, fmt.Errorf("it holds %d events", len(events))
	}
	return events[0], nil
}

func drain(r io.Reader) { _, _ = io.CopyN(io.Discard, r, drainBytes) }

// body is data that is sent.
type body struct{ bytes.Reader }

func newBody(data []byte) *body {
	b := &body{}
	b.Reset(data)
	return b
}

func (*body) Close() error { return nil }
