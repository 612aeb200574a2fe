package serve

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestProfiles: none without an address, on the loopback alone unless that is asked for, and gone with the program.
func TestProfiles(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	if err := (&profiling{}).start(t.Context(), quiet); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "example.com:0"} {
		if err := (&profiling{address: address}).start(t.Context(), quiet); err == nil || !strings.Contains(err.Error(), "--pprof-remote") {
			t.Errorf("%s: %v", address, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := (&profiling{address: "0.0.0.0:0", remote: true}).start(ctx, quiet); err != nil {
		t.Error(err)
	}
	var log bytes.Buffer
	if err := (&profiling{address: "127.0.0.1:0"}).start(ctx, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	base := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1]
	for path, want := range map[string]int{"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/": 404, "/metrics": 404} {
		response, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s answers %s, want %d", path, response.Status, want)
		}
	}
}
