package serve

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/natsserver"
	"ebb.dev/ebb/test/metricsdoc"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

// startNATS runs the command until the test ends or stop is called, and returns where it listens.
func startNATS(t *testing.T, n natsFlags) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	n.server.Listen, n.sync, n.maxPayload, n.maxStore = "127.0.0.1:0", "always", "2Mi", "100Ti"
	n.started = func(url string) { ready <- url }
	go func() { done <- n.run(ctx) }()
	select {
	case url = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return url, stop
}

// TestNATSKeepsEvents: an event outlives the server, and clients need what they are asked for.
func TestNATSKeepsEvents(t *testing.T) {
	folder := t.TempDir()
	authority := trusttest.New(t)
	server, own := filepath.Join(folder, "server"), filepath.Join(folder, "own")
	authority.Files(t, server, trust.NATS)
	mine := trust.Client(authority.Files(t, own, trust.Eventing), trust.NATS)
	others := trust.Client(authority.Files(t, filepath.Join(folder, "others"), trust.Activator), trust.NATS)
	password := filepath.Join(folder, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := tlsFiles{cert: filepath.Join(server, "tls.crt"), key: filepath.Join(server, "tls.key"), ca: filepath.Join(server, "ca.crt")}
	flags := natsFlags{tls: files, passwordFile: password}
	flags.server.Folder, flags.server.User = filepath.Join(folder, "data"), "ebb"

	client := func(url, password string, config *tls.Config) *jetstream.Engine {
		e, err := jetstream.Open(jetstream.Options{URL: url, User: "ebb", Password: password, TLS: config, Patience: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	e := &event.Event{ID: "1", Source: "/s", Type: "t"}
	url, stop := startNATS(t, flags)
	one := client(url, "secret", mine)
	if err := one.PutTopic(t.Context(), engine.Topic{Name: "b.a.b.c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Publish(t.Context(), "b.a.b.c", e); err != nil {
		t.Fatal(err)
	}
	for name, refused := range map[string]func() (*jetstream.Engine, error){
		"another password": func() (*jetstream.Engine, error) {
			return jetstream.Open(jetstream.Options{URL: url, User: "ebb", Password: "guess", TLS: mine, Patience: time.Second})
		},
		"another role": func() (*jetstream.Engine, error) {
			return jetstream.Open(jetstream.Options{URL: url, User: "ebb", Password: "secret", TLS: others, Patience: time.Second})
		},
		"no certificate": func() (*jetstream.Engine, error) {
			return jetstream.Open(jetstream.Options{URL: url, User: "ebb", Password: "secret", Patience: time.Second})
		},
	} {
		e, err := refused()
		if err != nil {
			continue
		}
		if err := e.PutTopic(t.Context(), engine.Topic{Name: "b.a.b.d"}); err == nil {
			t.Errorf("a client with %s was let in", name)
		}
		_ = e.Close()
	}
	stop()

	url, _ = startNATS(t, flags)
	again, err := client(url, "secret", mine).Publish(t.Context(), "b.a.b.c", e)
	if err != nil {
		t.Fatal(err)
	}
	if want := (engine.Stored{Sequence: 1, Duplicate: true}); again != want {
		t.Errorf("after a restart: %+v, want %+v", again, want)
	}
}

func TestNATSHealth(t *testing.T) {
	h := &natsHealth{}
	web := httptest.NewServer(h.handler())
	defer web.Close()
	get := func(path string) (int, string) {
		answer, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	if status, text := get("/readyz"); status != 503 || !strings.Contains(text, "starting") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	running, err := natsserver.Start(t.Context(), natsserver.Options{Listen: "127.0.0.1:0", Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	h.set(running)
	if status, _ := get("/readyz"); status != 200 {
		t.Errorf("/readyz: %d", status)
	}
	if status, _ := get("/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	if _, text := get("/metrics"); !strings.Contains(text, "ebb_nats_streams 0") || !strings.Contains(text, "ebb_nats_promised_bytes 0") {
		t.Errorf("/metrics: %s", text)
	}
	families, err := h.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "ebb_") })
	metricsdoc.Compare(t, "NATS server", "ebb_", families)
	running.Shutdown()
	if status, text := get("/readyz"); status != 503 || !strings.Contains(text, "does not run") {
		t.Errorf("/readyz: %d %s", status, text)
	}
}

func TestNATSFlagsAreChecked(t *testing.T) {
	for _, test := range []struct {
		args   []string
		reason string
	}{
		{nil, "--data"},
		{[]string{"--data", "x", "--sync", "often"}, "--sync often"},
		{[]string{"--data", "x", "--sync", "0s"}, "--sync 0s"},
		{[]string{"--data", "x", "--max-store", "much"}, "--max-store much"},
		{[]string{"--data", "x", "--max-payload", "1Gi"}, "--max-payload 1Gi"},
		{[]string{"--data", "x", "--user", "u"}, "--password-file"},
		{[]string{"--data", "x", "--tls-cert", "c"}, "--tls-ca"},
		{[]string{"--data", "x", "--listen", "nowhere", "--metrics-listen", ""}, "nowhere"},
	} {
		cmd := NATSCommand()
		cmd.SilenceErrors = true
		cmd.SetArgs(test.args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("ebb nats %v: %v; want %s", test.args, err, test.reason)
		}
	}
}
