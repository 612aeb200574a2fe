package dispatcher

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"ebb.dev/ebb/eventing/event"
)

// plainMost is the largest data that is sent whole before the answer is read: it fits into the socket's buffers, or nearly, so that a
// server which answers before it has read all is heard.
const plainMost = 64 << 10

// plain sends small events by HTTP/1.1 over connections that are kept. The goroutine that asks writes and reads itself, and
// the event's attributes go straight into the connection's buffer: Go's transport has two goroutines for each connection and a map of headers for
// each request, which cost more than all the rest of a small delivery. What is not a small event to a plain http target goes by Go's.
type plain struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex
	idle   map[string][]*kept // by address, the last used at the end
	closed bool
}

// kept is a connection.
type kept struct {
	net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	last time.Time
	old  bool // it was used before
}

// plainTarget is what is the same in each request to a target.
type plainTarget struct {
	address string
	head    []byte // request line and headers
}

func newPlainTarget(u *url.URL) *plainTarget {
	t := &plainTarget{address: u.Host}
	if u.Port() == "" {
		t.address = net.JoinHostPort(u.Hostname(), "80")
	}
	t.head = append(t.head, "POST "+u.RequestURI()+" HTTP/1.1\r\nHost: "+u.Host+"\r\nUser-Agent: "+userAgent[0]+"\r\n"...)
	if u.User != nil {
		password, _ := u.User.Password()
		t.head = append(t.head, "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))+"\r\n"...)
	}
	return t
}

// fits says whether an event can be sent this way.
func (p *plain) fits(e *event.Event) bool {
	if len(e.Data) > plainMost || !httpguts.ValidHeaderFieldValue(e.DataContentType) {
		return false
	}
	for i := range e.Extensions {
		if !httpguts.ValidHeaderFieldName(e.Extensions[i].Name) {
			return false
		}
	}
	return true
}

// post sends one event and has the answer read, until the deadline or the end of ctx. A kept connection that turns out to be closed is
// replaced by a new one.
func (p *plain) post(ctx context.Context, t *plainTarget, e *event.Event, extra []header, deadline time.Time, read func(*http.Response) answer) answer {
	for fresh := false; ; fresh = true {
		c, err := p.connection(ctx, t.address, deadline, fresh)
		if err != nil {
			return answer{err: reason(ctx, deadline, err)}
		}
		a, again := p.exchange(ctx, c, t, e, extra, deadline, read)
		if !again {
			return a
		}
	}
}

func (p *plain) connection(ctx context.Context, address string, deadline time.Time, fresh bool) (*kept, error) {
	if !fresh {
		p.mu.Lock()
		if list := p.idle[address]; len(list) > 0 {
			c := list[len(list)-1]
			list[len(list)-1] = nil
			p.idle[address] = list[:len(list)-1]
			p.mu.Unlock()
			return c, nil
		}
		p.mu.Unlock()
	}
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	conn, err := p.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &kept{Conn: conn, r: bufio.NewReader(conn), w: bufio.NewWriter(conn)}, nil
}

// post1xx is how many answers of 1xx may come before the answer.
const post1xx = 8

func (p *plain) exchange(ctx context.Context, c *kept, t *plainTarget, e *event.Event, extra []header, deadline time.Time, read func(*http.Response) answer) (a answer, again bool) {
	keep := false
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() && keep {
			p.put(t.address, c)
		} else {
			_ = c.Close()
		}
	}()
	if err := c.SetDeadline(deadline); err != nil {
		return answer{err: err}, c.old
	}
	if err := c.write(t, e, extra); err != nil {
		err = reason(ctx, deadline, err)
		return answer{err: err}, c.old && !ended(err)
	}
	if _, err := c.r.Peek(1); err != nil {
		err = reason(ctx, deadline, err)
		return answer{err: err}, c.old && !ended(err)
	}
	for range post1xx {
		resp, err := http.ReadResponse(c.r, posted) //nolint:bodyclose // closing it reads on; the connection is closed, or the body was read
		if err != nil {
			return answer{err: reason(ctx, deadline, err)}, false
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		a := read(resp)
		if a.err != nil {
			a.err = reason(ctx, deadline, a.err)
		}
		var end [1]byte
		n, err := resp.Body.Read(end[:]) // nothing, when it was read to its end
		keep = n == 0 && err != nil && !resp.Close && a.err == nil && resp.StatusCode != http.StatusSwitchingProtocols && c.r.Buffered() == 0
		return a, false
	}
	return answer{err: errors.New("the server sends one interim answer after the other")}, false
}

// posted is the request as far as reading an answer has to know it.
var posted = &http.Request{Method: http.MethodPost}

func (c *kept) write(t *plainTarget, e *event.Event, extra []header) error {
	w := c.w
	w.Reset(c.Conn)
	_, _ = w.Write(t.head)
	for _, h := range extra {
		c.line(h.name, h.value)
	}
	c.line("Ce-Specversion", "1.0")
	c.line("Ce-Id", event.EncodeHeader(e.ID))
	c.line("Ce-Source", event.EncodeHeader(e.Source))
	c.line("Ce-Type", event.EncodeHeader(e.Type))
	c.optional("Ce-Subject", e.Subject)
	c.optional("Ce-Time", e.Time)
	c.optional("Ce-Dataschema", e.DataSchema)
	if e.DataContentType != "" {
		c.line("Content-Type", e.DataContentType)
	}
	for i := range e.Extensions {
		_, _ = w.WriteString("Ce-")
		c.line(e.Extensions[i].Name, event.EncodeHeader(e.Extensions[i].Value))
	}
	_, _ = w.WriteString("Content-Length: ")
	_, _ = w.Write(strconv.AppendInt(w.AvailableBuffer(), int64(len(e.Data)), 10))
	_, _ = w.WriteString("\r\n\r\n")
	_, _ = w.Write(e.Data)
	return w.Flush() // tells of every error before
}

func (c *kept) optional(name, value string) {
	if value != "" {
		c.line(name, event.EncodeHeader(value))
	}
}

func (c *kept) line(name, value string) {
	_, _ = c.w.WriteString(name)
	_, _ = c.w.WriteString(": ")
	_, _ = c.w.WriteString(value)
	_, _ = c.w.WriteString("\r\n")
}

// ended says whether an error is the end of the time there was, and not the connection's.
func ended(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// reason is an error of the connection as what caused it.
func reason(ctx context.Context, deadline time.Time, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded), !deadline.IsZero() && !time.Now().Before(deadline):
		return context.DeadlineExceeded
	}
	return err
}

func (p *plain) put(address string, c *kept) {
	c.old, c.last = true, time.Now()
	p.mu.Lock()
	if !p.closed && len(p.idle[address]) < idleConnections {
		if p.idle == nil {
			p.idle = map[string][]*kept{}
		}
		p.idle[address] = append(p.idle[address], c)
		c = nil
	}
	p.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// sweep closes connections that were not used for a while.
func (p *plain) sweep(now time.Time) {
	var over []*kept
	p.mu.Lock()
	for address, list := range p.idle {
		n := 0
		for n < len(list) && now.Sub(list[n].last) >= idleTimeout { // oldest first
			n++
		}
		over = append(over, list[:n]...)
		if rest := append([]*kept(nil), list[n:]...); len(rest) > 0 {
			p.idle[address] = rest
		} else {
			delete(p.idle, address)
		}
	}
	p.mu.Unlock()
	for _, c := range over {
		_ = c.Close()
	}
}

func (p *plain) close() {
	p.mu.Lock()
	all := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, list := range all {
		for _, c := range list {
			_ = c.Close()
		}
	}
}
