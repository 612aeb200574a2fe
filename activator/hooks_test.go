package activator

import (
	"net"
	"net/http"
	"testing"
)

// TestHooksAreBounded: whoever fills the address for hooks takes nothing from requests, and hooks go on when he is gone.
func TestHooksAreBounded(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c, func(o *Options) { o.MaxHooks = 2 })
	c.set(revisionOf(app(t, "p1", echo)))
	c.change(func() { c.drained["default/one"] = true })
	var idle []net.Conn
	for range 10 {
		conn, err := net.Dial("tcp", a.DrainAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	if status, text, _ := do(t, client(t, false), newRequest(t, a, http.MethodGet, "/", nil)); status != http.StatusOK {
		t.Errorf("a request meanwhile: %d %q", status, text)
	}
	answered := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + a.DrainAddr().String() + "/drain/default/one")
		if err == nil {
			_ = res.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a hook was answered beyond the bound: %v", err)
	default:
	}
	for _, conn := range idle {
		_ = conn.Close()
	}
	if err := <-answered; err != nil {
		t.Errorf("a hook after it: %v", err)
	}
}
