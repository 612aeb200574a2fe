// Package counter counts what an HTTP server has in progress, for servers that tests
// run: how many requests at once, and the most there ever were. A request whose
// caller has closed the connection does not count, even if the server has not noticed it yet: the kernel
// is asked. So a limit that is kept by those who call can be asserted exactly.
package counter

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// Counter counts requests. Its zero value is ready; its methods may be called from several goroutines.
type Counter struct {
	mu    sync.Mutex
	now   map[*http.Request]struct{}
	most  int
	total int64
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Begin counts a request until the function that it returns is called.
func (c *Counter) Begin(r *http.Request) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.now = map[*http.Request]struct{}{}
	}
	c.now[r] = struct{}{}
	c.total++
	if len(c.now) > c.most {
		open := 0
		for r := range c.now {
			if !hungUp(r) {
				open++
			}
		}
		c.most = max(c.most, open)
	}
	return func() {
		c.mu.Lock()
		delete(c.now, r)
		c.mu.Unlock()
	}
}

// Counts returns the requests now, the most at once, and all that began.
func (c *Counter) Counts() (now, most int, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.now), c.most, c.total
}

// hungUp tells whether the other side has closed the request's connection.
func hungUp(r *http.Request) bool {
	conn, _ := r.Context().Value(connKey{}).(syscall.Conn)
	if conn == nil {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone || err != nil
}
