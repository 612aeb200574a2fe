package activator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// The gateway's headers as net/http spells them.
var (
	revisionHeader   = http.CanonicalHeaderKey(ir.RevisionHeader)
	repeatableHeader = http.CanonicalHeaderKey(ir.RepeatableHeader)
)

// forwarder is the handler of the data address: it finds the revision, waits for a
// pod and passes the request on. The body is not read before a connection to a pod exists.
type forwarder struct {
	table   *table
	metrics *metrics
	hangups *hangups
	tracer  *tracer
	proxy   httputil.ReverseProxy
	http1   *http.Transport
	h2c     *http.Transport
}

// exchange is one request on its way. It is its own context, which saves the
// request another allocation.
type exchange struct {
	context.Context
	revision  *revision
	ticket    ticket
	in        *http.Request
	out       http.ResponseWriter
	forwarder *forwarder
	begun     bool // the gateway was told that the request is being passed on
	ok        bool // a pod answered, and not with an error of its own
	status    int  // the pod's
}

type exchangeKey struct{}

func (e *exchange) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return e
	}
	return e.Context.Value(key)
}

func (e *exchange) hungUp() (left <-chan struct{}, stop func()) {
	return e.forwarder.hangups.watch(e.in)
}

// sizeOf is about what a request's headers take in memory.
func sizeOf(req *http.Request) int64 {
	const each = 64 // of a header: its entry, its slice, two strings
	n := len(req.RequestURI) + len(req.Host)
	for k, values := range req.Header {
		n += len(k)
		for _, v := range values {
			n += len(v) + each
		}
	}
	return int64(n)
}

// attempts after resets of requests that may run twice, beside the first one.
const resetRetries = 2

func newForwarder(t *table, m *metrics, hangups *hangups, spans *tracer, dialTimeout time.Duration) *forwarder {
	f := &forwarder{table: t, metrics: m, hangups: hangups, tracer: spans}
	f.http1, f.h2c = newTransports(dialTimeout)
	f.proxy = httputil.ReverseProxy{
		Rewrite:   rewrite,
		Transport: f,
		// Answers of unknown length and event streams are flushed at once in any case;
		// this is for a body of known length that comes in drips.
		FlushInterval:  2 * time.Millisecond,
		BufferPool:     &bufferPool{sync.Pool{New: func() any { return new([copyBuffer]byte) }}},
		ErrorLog:       log.New(io.Discard, "", 0),
		ModifyResponse: f.answered,
		ErrorHandler:   f.failed,
	}
	return f
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.metrics.inProgress.Add(1)
	defer f.metrics.inProgress.Add(-1)
	var name string
	if v := req.Header[revisionHeader]; len(v) > 0 {
		name = v[0]
	}
	x := &exchange{Context: req.Context(), in: req, out: w, forwarder: f}
	x.ticket.request = req
	if req.ProtoMajor == 1 && req.ContentLength != 0 {
		x.ticket.watch = x.hungUp
		// Else the server throws away what is left of a small body when the answer begins.
		_ = http.NewResponseController(w).EnableFullDuplex() // an error is of writers that are not the server's own
	}
	for {
		r, no := f.table.lookup(name)
		if no != nil {
			f.refuse(w, req, no)
			return
		}
		x.revision = r
		known, err := r.acquire(x, &x.ticket)
		if !known {
			continue // evicted in this moment
		}
		defer func() { r.release(&x.ticket, x.ok) }()
		if span := f.tracer.begin(req, r, &x.ticket, err); span != nil {
			defer func() { span.end(x.status) }()
		}
		if err != nil {
			f.failed(w, req, err)
			return
		}
		break
	}
	f.proxy.ServeHTTP(w, req.WithContext(x))
}

// rewrite prepares the request to the pod: what the gateway said about the client
// stays, as do the host and the query as they came.
func rewrite(p *httputil.ProxyRequest) {
	for _, k := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := p.In.Header[k]; ok {
			p.Out.Header[k] = v
		}
	}
	delete(p.Out.Header, revisionHeader)
	delete(p.Out.Header, repeatableHeader)
	p.Out.URL.Scheme = "http"
	p.Out.URL.RawQuery = p.In.URL.RawQuery
}

// RoundTrip sends a request to the pod that its ticket holds. If that cannot be
// reached it waits for another one; nothing of the request was sent then. A request
// that may run twice is also sent again when the connection broke before an answer.
func (f *forwarder) RoundTrip(out *http.Request) (*http.Response, error) {
	x := out.Context().Value(exchangeKey{}).(*exchange)
	transport := f.http1
	switch x.revision.protocol() {
	case link.Protocol_H2C:
		transport = f.h2c
	case link.Protocol_AUTO:
		if x.in.ProtoMajor == 2 {
			transport = f.h2c
		}
	}
	twice := mayRunTwice(x.in)
	if !twice {
		out = x.announced(out)
	}
	resets := 0
	for {
		sent := *out
		u := *out.URL
		sent.URL = &u
		u.Host = x.ticket.pod.address
		var body *body
		if out.Body != nil {
			body = newBody(out, &sent, x.in)
			sent.Body = body
		}
		res, err := transport.RoundTrip(&sent)
		if err == nil {
			return res, nil
		}
		if x.Err() != nil {
			return nil, errLeft
		}
		var dial *dialError
		switch {
		case errors.As(err, &dial):
			f.metrics.dialFailures.Inc()
			err = x.revision.again(x, &x.ticket)
		case body == nil && resets < resetRetries && twice:
			resets++
			err = x.revision.retry(x, &x.ticket)
		default:
			return nil, err
		}
		if err != nil {
			return nil, err
		}
	}
}

// announced is the request, which tells the gateway when it begins to be passed on: by
// an informational response, after which a gateway tries no request again. So whatever dies before that
// is tried elsewhere, and nothing that may not run twice is tried after it.
func (x *exchange) announced(out *http.Request) *http.Request {
	return out.WithContext(httptrace.WithClientTrace(out.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			if !x.begun {
				x.begun = true
				x.out.WriteHeader(http.StatusProcessing)
			}
		},
	}))
}

func (f *forwarder) closeIdle() {
	f.http1.CloseIdleConnections()
	f.h2c.CloseIdleConnections()
}

// mayRunTwice says whether a request may run twice without harm: by its method's
// definition (RFC 9110, 9.2.1), or because its Route says so of all idempotent ones.
func mayRunTwice(in *http.Request) bool {
	switch in.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	_, said := in.Header[repeatableHeader]
	return said
}

// answered sees every answer of a pod before it is passed on.
func (f *forwarder) answered(res *http.Response) error {
	x := res.Request.Context().Value(exchangeKey{}).(*exchange)
	x.ok, x.status = res.StatusCode < 500, res.StatusCode
	f.metrics.answer(res.StatusCode)
	return nil
}

// failed answers a request that got no answer of a pod.
func (f *forwarder) failed(w http.ResponseWriter, req *http.Request, err error) {
	var no *refusal
	switch {
	case errors.As(err, &no):
		f.refuse(w, req, no)
	case errors.Is(err, errHandedBack):
		f.metrics.refusals[reasonHandedBack].Inc()
		panic(http.ErrAbortHandler) // a reset, after which gateways go to another activator
	case errors.Is(err, errLeft), req.Context().Err() != nil:
		f.metrics.refusals[reasonLeft].Inc()
		panic(http.ErrAbortHandler) // nobody reads an answer
	default:
		revision := "revision"
		if x, ok := req.Context().Value(exchangeKey{}).(*exchange); ok {
			revision = "revision " + x.revision.shown()
		}
		f.refuse(w, req, &refusal{
			http.StatusBadGateway, reasonUnreachable,
			fmt.Sprintf("%s: its pod broke the connection before it answered: %v", revision, cause(err)), 0,
		})
	}
}

// cause is an error of the transport without addresses, which are no caller's business.
func cause(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case isReset(err):
		return "reset"
	default:
		return "protocol error"
	}
}

func (f *forwarder) refuse(w http.ResponseWriter, req *http.Request, no *refusal) {
	f.metrics.refusals[no.reason].Inc()
	no.write(w, req)
}

// body is the request's body for one attempt. Closing it ends the attempt's access
// and leaves the body for the next one. Trailers that came with it are passed on.
type body struct {
	io.Reader
	out, in *http.Request
	closed  atomic.Bool
}

func newBody(out, sent, in *http.Request) *body {
	b := &body{Reader: out.Body, out: sent, in: in}
	if len(in.Trailer) > 0 {
		sent.Trailer = maps.Clone(in.Trailer)
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.Reader.Read(p)
	if err == io.EOF && len(b.in.Trailer) > 0 {
		for k, v := range b.in.Trailer {
			b.out.Trailer[k] = v
		}
	}
	return n, err
}

func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

const copyBuffer = 32 << 10 // bytes

// bufferPool lends buffers to copy bodies with; arrays, so that a pointer goes in
// and out of the pool and nothing is allocated for the slice.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte  { return p.pool.Get().(*[copyBuffer]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copyBuffer]byte)(b)) }
