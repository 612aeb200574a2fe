package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Wire passes connections on. Safe for concurrent use.
type Wire struct {
	listener net.Listener
	to       func() string
	delay    atomic.Int64
	refuses  atomic.Bool
	work     sync.WaitGroup

	mu     sync.Mutex
	ends   map[*net.TCPConn]struct{} // of both sides of each connection
	closed bool
}

// Listen begins to pass connections from an address on to the one that to returns when
// a connection comes. The caller calls Close.
func Listen(address string, to func() string) (*Wire, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	w := &Wire{listener: listener, to: to, ends: map[*net.TCPConn]struct{}{}}
	w.work.Go(w.accept)
	return w, nil
}

// Address is where it listens.
func (w *Wire) Address() string { return w.listener.Addr().String() }

// Cut resets every connection that there is and returns how many these were. New ones are passed on.
func (w *Wire) Cut() int {
	w.mu.Lock()
	ends := w.ends
	w.ends = map[*net.TCPConn]struct{}{}
	w.mu.Unlock()
	for c := range ends {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	return len(ends) / 2
}

// Delay is how much later than it was sent everything arrives from now on, in both directions.
func (w *Wire) Delay(d time.Duration) { w.delay.Store(int64(d)) }

// Refuse makes it end new connections at once, until it is called with false.
func (w *Wire) Refuse(on bool) { w.refuses.Store(on) }

// Close ends it and every connection.
func (w *Wire) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	_ = w.listener.Close()
	w.Cut()
	w.work.Wait()
}

func (w *Wire) accept() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.work.Go(func() { w.connect(in.(*net.TCPConn)) })
	}
}

func (w *Wire) connect(in *net.TCPConn) {
	if w.refuses.Load() {
		_ = in.SetLinger(0)
		_ = in.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.to())
	if err != nil {
		_ = in.SetLinger(0)
		_ = in.Close()
		return
	}
	out := c.(*net.TCPConn)
	w.mu.Lock()
	closed := w.closed
	if !closed {
		w.ends[in], w.ends[out] = struct{}{}, struct{}{}
	}
	w.mu.Unlock()
	if closed {
		_ = in.Close()
		_ = out.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.pass(out, in) })
	both.Go(func() { w.pass(in, out) })
	both.Wait()
	w.mu.Lock()
	delete(w.ends, in)
	delete(w.ends, out)
	w.mu.Unlock()
	_ = in.Close()
	_ = out.Close()
}

// piece is what was read at a time.
type piece struct {
	bytes []byte
	due   time.Time
}

// pass copies one direction until it ends. What is late keeps its order and does not make what
// follows later still.
func (w *Wire) pass(to, from *net.TCPConn) {
	pieces := make(chan piece, 256)
	var writer sync.WaitGroup
	writer.Go(func() {
		broken := false
		for p := range pieces {
			if wait := time.Until(p.due); wait > 0 {
				time.Sleep(wait)
			}
			if !broken {
				_, err := to.Write(p.bytes)
				broken = err != nil
			}
		}
		_ = to.CloseWrite()
	})
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{buffer[:n], time.Now().Add(time.Duration(w.delay.Load()))}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) { // reset, or cut: the other side is to see that too
				_ = to.SetLinger(0)
				_ = to.Close()
			}
			break
		}
	}
	close(pieces)
	writer.Wait()
}
