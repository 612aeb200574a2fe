package serve

import (
	"log/slog"
	"strings"
	"testing"
)

// Events are not for everybody who reaches the pod.
func TestInspectListensOnTheLoopbackAlone(t *testing.T) {
	for _, address := range []string{":9092", "0.0.0.0:9092", "10.0.0.1:9092", "localhost", "[::]:0"} {
		if err := serveInspect(t.Context(), address, nil, slog.Default()); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s is taken: %v", address, err)
		}
	}
	if err := serveInspect(t.Context(), "127.0.0.1:0", nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}
