package platform

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Listener is one of the gateway's three.
type Listener string

// The listeners for callers from outside, without TLS and with, and the one for callers in the cluster.
const (
	External Listener = "external"
	Secure   Listener = "external-https"
	Internal Listener = "internal"
)

// Dial connects to a listener of the gateway, whatever address is asked for: the host of
// a URL is then only the Host header.
func (p *Platform) Dial(l Listener) func(ctx context.Context, network, address string) (net.Conn, error) {
	running := p.Running()
	to := running.Gateway
	switch l {
	case Internal:
		to = running.Internal
	case Secure:
		to = running.GatewayHTTPS
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to)
	}
}

// Client speaks HTTP/1.1 with a listener. It follows no redirect and has no time limit
// but the request's context.
func (p *Platform) Client(l Listener) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: p.Dial(l), MaxIdleConnsPerHost: 256, DisableCompression: true,
			IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ClientH2C speaks HTTP/2 without TLS with a listener.
func (p *Platform) ClientH2C(l Listener) *http.Client {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{DialContext: p.Dial(l), Protocols: &h2c, DisableCompression: true}}
}

// Answer is a response with its whole body.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Revision that answered.
func (a Answer) Revision() string { return a.Header.Get("K-Revision") }

func (a Answer) String() string {
	body := a.Body
	if len(body) > 300 {
		body = body[:300] + "…"
	}
	return fmt.Sprintf("%d %q", a.Status, body)
}

// Call sends a request and reads the answer.
func Call(c *http.Client, r *http.Request) (Answer, error) {
	response, err := c.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, string(body)}, err
}

// Fetch calls url, whose host is only the Host header, on a listener; more headers are names and values.
func (p *Platform) Fetch(ctx context.Context, l Listener, url string, headers ...string) (Answer, error) {
	c := p.Client(l)
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return Call(c, r)
}

// MustFetch is Fetch of an answer with status 200.
func (p *Platform) MustFetch(t testing.TB, url string) Answer {
	t.Helper()
	answer, err := p.Fetch(t.Context(), External, url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	if answer.Status != http.StatusOK {
		t.Fatalf("GET %s answers %s", url, answer)
	}
	return answer
}

// AwaitAnswer calls url until the answer is as wanted, and fails the test when it is not
// in time.
func (p *Platform) AwaitAnswer(t testing.TB, l Listener, url string, wanted func(Answer) bool) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	defer cancel()
	var answer Answer
	err := poll(ctx, func() (err error) {
		if answer, err = p.Fetch(ctx, l, url); err == nil && !wanted(answer) {
			err = fmt.Errorf("%s", strings.TrimSpace(answer.String()))
		}
		return err
	})
	if err != nil {
		t.Fatalf("GET %s: still %v", url, err)
	}
	return answer
}
