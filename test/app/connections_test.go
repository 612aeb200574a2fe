package main

import (
	"net/http"
	"testing"
	"time"
)

// A listener that refuses or resets does so until it is told, and serves again.
func TestConnections(t *testing.T) {
	l, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: l.told(http.NotFoundHandler()), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path string) error {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	until := func(fails bool) {
		t.Helper()
		for (ask(http.MethodGet, "/") != nil) != fails {
			if t.Context().Err() != nil {
				t.Fatal(t.Context().Err())
			}
		}
	}
	for _, mode := range []string{"refuse", "reset", "refuse"} {
		until(false)
		if err := ask(http.MethodPost, "/connections?ms=600000&mode="+mode); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		until(true)
		l.restore()
	}
	until(false)
	if err := ask(http.MethodPost, "/connections?ms=1&mode=refuse"); err != nil {
		t.Fatal(err)
	}
	until(false)
}
