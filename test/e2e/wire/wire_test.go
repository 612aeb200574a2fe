package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that sends everything back.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, w *Wire) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestWire(t *testing.T) {
	to := echo(t)
	w, err := Listen("127.0.0.1:0", func() string { return to })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	c := dial(t, w)
	sent := bytes.Repeat([]byte("wire"), 100_000)
	go func() { _, _ = c.Write(sent); _ = c.(*net.TCPConn).CloseWrite() }()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes back of %d, %v", len(got), len(sent), err)
	}

	c = dial(t, w)
	answer := make([]byte, 1)
	w.Delay(50 * time.Millisecond)
	began := time.Now()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil || time.Since(began) < 100*time.Millisecond {
		t.Fatalf("an echo 50 ms late each way came after %v, %v", time.Since(began), err)
	}
	w.Delay(0)
	if n := w.Cut(); n != 1 {
		t.Errorf("%d connections cut, want 1", n)
	}
	if _, err := c.Read(answer); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("reading from a connection that was cut: %v", err)
	}
	w.Refuse(true)
	if refused, err := net.Dial("tcp", w.Address()); err == nil { // it may be so fast that there is no connection at all
		if _, err := refused.Read(answer); err == nil {
			t.Error("something came by a connection that is refused")
		}
		refused.Close()
	}
	w.Refuse(false)
	c = dial(t, w)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Errorf("after it is passed on again: %v", err)
	}
}
