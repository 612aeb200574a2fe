package main

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// connections is a listener that refuses or resets connections for a while.
type connections struct {
	address string

	mu     sync.Mutex
	inner  net.Listener
	closed bool
	until  time.Time // connections are reset, or nothing listens, until then
	reset  bool
	over   chan struct{} // closed when what is refused is to be taken again
	open   map[*net.TCPConn]struct{}
}

func listen(address string) (*connections, error) {
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &connections{address: inner.Addr().String(), inner: inner, open: map[*net.TCPConn]struct{}{}}, nil
}

// Accept gives what is neither refused nor reset.
func (l *connections) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		inner := l.inner
		l.mu.Unlock()
		c, err := inner.Accept()
		l.mu.Lock()
		left, refused, over, closed := time.Until(l.until), l.refused(), l.over, l.closed
		if err == nil && (left <= 0 || refused) {
			tcp := c.(*net.TCPConn)
			l.open[tcp] = struct{}{}
			l.mu.Unlock()
			return &tracked{tcp, l}, nil
		}
		l.mu.Unlock()
		switch {
		case err == nil:
			abort(c.(*net.TCPConn))
		case closed || !refused:
			return nil, err
		default:
			select {
			case <-time.After(left):
			case <-over:
			}
			if err := l.again(); err != nil {
				return nil, err
			}
		}
	}
}

// refused says whether nothing listens for now; mu is held.
func (l *connections) refused() bool { return !l.until.IsZero() && !l.reset }

func (l *connections) again() error {
	inner, err := net.Listen("tcp", l.address)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inner, l.until = inner, time.Time{}
	return nil
}

// refuse listens no more for a while, or until restore; every answer ends its connection.
func (l *connections) refuse(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused() {
		return
	}
	l.until, l.reset, l.over = time.Now().Add(d), false, make(chan struct{})
	_ = l.inner.Close()
}

// restore ends what refuse or resetAll began.
func (l *connections) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.reset:
		l.until = time.Time{}
	case l.refused():
		select {
		case <-l.over:
		default:
			close(l.over)
		}
	}
}

// resetAll resets every connection, and the new ones for a while.
func (l *connections) resetAll(d time.Duration) {
	l.mu.Lock()
	l.until, l.reset = time.Now().Add(d), true
	open := l.open
	l.open = map[*net.TCPConn]struct{}{}
	l.mu.Unlock()
	for c := range open {
		abort(c)
	}
}

func (l *connections) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.inner.Close()
}

// Addr is where it listens when it does.
func (l *connections) Addr() net.Addr { return l.inner.Addr() }

func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

type tracked struct {
	*net.TCPConn
	of *connections
}

func (c *tracked) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.TCPConn)
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// told answers POST /connections?mode=refuse|reset&ms=N; other requests are told to end their connection while new ones are refused.
func (l *connections) told(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connections" && r.Method == http.MethodPost {
			d := time.Duration(number(w, r, "ms", 0, 600_000)) * time.Millisecond
			switch mode := r.URL.Query().Get("mode"); {
			case d < 0:
			case mode == "refuse":
				l.refuse(d)
			case mode == "reset":
				time.AfterFunc(10*time.Millisecond, func() { l.resetAll(d) }) // after the answer
			default:
				http.Error(w, "mode is refuse or reset", http.StatusBadRequest)
			}
			return
		}
		l.mu.Lock()
		refused := l.refused()
		l.mu.Unlock()
		if refused && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
