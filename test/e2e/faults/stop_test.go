package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"ebb.dev/ebb/test/e2e/platform"
)

// Ctrl-C: what is in flight is answered, by way of a pod and of an activator, and nothing new is taken.
func TestStopFinishesRequests(t *testing.T) {
	shared.Platform(t) // skips where there is none
	p, err := platform.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	n := p.Namespace(t)
	n.Deploy("direct", quick("min-scale", "1"))
	n.Deploy("behind", quick("min-scale", "1", "target-burst-capacity", "-1"))
	client := &http.Client{Transport: &http.Transport{DialContext: n.Dial(platform.External)}}
	gateway := p.Running().Gateway
	type result struct {
		name string
		err  error
	}
	results := make(chan result, 2)
	begin := strings.Repeat("begun ", 20_000) // more than a server keeps before it begins to answer
	var bodies []*io.PipeWriter
	for _, name := range []string{"direct", "behind"} {
		body, writer := io.Pipe()
		bodies = append(bodies, writer)
		begun := make(chan struct{})
		go func() {
			response, err := client.Post(n.URL(name, "/echo"), "text/plain", body)
			if err == nil {
				first := make([]byte, len("begun "))
				_, err = io.ReadFull(response.Body, first)
				close(begun)
				rest, errRest := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if got := string(first) + string(rest); err == nil && errRest == nil && got != begin+"ended" {
					err = fmt.Errorf("answered %d bytes, want %d", len(got), len(begin+"ended"))
				}
				err = errors.Join(err, errRest)
			}
			results <- result{name, err}
		}()
		if _, err := writer.Write([]byte(begin)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-begun:
		case r := <-results:
			t.Fatalf("%s: %v", r.name, r.err)
		}
	}
	down := make(chan error, 1)
	go func() {
		_, err := p.Down(syscall.SIGINT)
		down <- err
	}()
	until(t, "the gateway takes no connection", func() error {
		if c, err := net.Dial("tcp", gateway); err == nil {
			_ = c.Close()
			return errors.New("it takes one")
		}
		return nil
	})
	for _, body := range bodies {
		_, _ = body.Write([]byte("ended"))
		_ = body.Close()
	}
	for range bodies {
		if r := <-results; r.err != nil {
			t.Errorf("%s: a request in flight when the platform was told to end: %v", r.name, r.err)
		}
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if err := p.Up(t.Context(), "--envoy", os.Getenv("ENVOY")); err != nil { // it has to clean up
		t.Fatal(err)
	}
}
