package counter_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"ebb.dev/ebb/test/counter"
)

// Requests at once are counted, but not one whose caller is gone, though its handler goes on.
func TestCounter(t *testing.T) {
	var c counter.Counter
	began, end := make(chan struct{}), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer c.Begin(r)()
		began <- struct{}{}
		<-end
	}))
	s.Config.ConnContext = counter.ConnContext
	s.Start()
	defer s.Close()
	defer close(end)
	call := func() net.Conn {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-began
		return conn
	}
	first := call()
	second := call()
	defer second.Close()
	if now, most, total := c.Counts(); now != 2 || most != 2 || total != 2 {
		t.Errorf("%d now, %d at most, %d in all, want 2 of each", now, most, total)
	}
	_ = first.Close()
	third := call()
	defer third.Close()
	if now, most, _ := c.Counts(); now != 3 || most != 2 {
		t.Errorf("%d handlers run, %d at most, want 3 and 2: one caller is gone", now, most)
	}
}
