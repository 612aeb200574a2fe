package activator

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// hangups notices clients that leave while they are held. net/http does it too, but
// over HTTP/1.1 only once a request's body was read, and the body of a held request
// is not. The kernel tells when a connection's other side closed it; one goroutine
// listens for all of them.
type hangups struct {
	epoll int
	wake  [2]int // a pipe whose closed end ends the goroutine
	done  chan struct{}

	mu   sync.Mutex
	left map[int32]chan struct{} // by file descriptor
}

func newHangups() (*hangups, error) {
	h := &hangups{done: make(chan struct{}), left: map[int32]chan struct{}{}}
	var err error
	if h.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if err = syscall.Pipe2(h.wake[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err == nil {
		err = syscall.EpollCtl(h.epoll, syscall.EPOLL_CTL_ADD, h.wake[0], &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(h.wake[0])})
	}
	if err != nil {
		_ = syscall.Close(h.epoll)
		return nil, err
	}
	go h.listen()
	return h, nil
}

func (h *hangups) listen() {
	defer close(h.done)
	events := make([]syscall.EpollEvent, 64)
	for {
		n, err := syscall.EpollWait(h.epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == int32(h.wake[0]) {
				return
			}
			h.mu.Lock()
			if left := h.left[e.Fd]; left != nil {
				close(left)
				delete(h.left, e.Fd)
			}
			h.mu.Unlock()
		}
	}
}

// watch closes the channel when the request's connection is closed by its other
// side; stop ends that. Both are for one held request, which has the connection for itself.
func (h *hangups) watch(req *http.Request) (left <-chan struct{}, stop func()) {
	nothing := func() {}
	conn, _ := req.Context().Value(connKey{}).(syscall.Conn)
	if conn == nil {
		return nil, nothing
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, nothing
	}
	mine := make(chan struct{})
	var key int32
	_ = raw.Control(func(fd uintptr) {
		key = int32(fd)
		h.mu.Lock()
		defer h.mu.Unlock()
		event := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: key}
		if syscall.EpollCtl(h.epoll, syscall.EPOLL_CTL_ADD, int(fd), &event) == nil {
			h.left[key] = mine
		}
	})
	return mine, func() {
		h.mu.Lock()
		if h.left[key] == mine {
			delete(h.left, key)
		}
		h.mu.Unlock()
		// Fails on a closed connection, whose descriptor may be another one's by now.
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.EpollCtl(h.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil)
		})
	}
}

// close ends the goroutine; nothing may be watched any more.
func (h *hangups) close() {
	_ = syscall.Close(h.wake[1])
	<-h.done
	_ = syscall.Close(h.wake[0])
	_ = syscall.Close(h.epoll)
}

type connKey struct{}

// withConn is a server's ConnContext: it makes the connection known to watch.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}
