package serve

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/test/trusttest"
	"ebb.dev/ebb/trust"
)

// TestEventingKnowsItsStore: with --nats-embedded a server of another role is not given events, one of the store's is.
func TestEventingKnowsItsStore(t *testing.T) {
	authority := trusttest.New(t)
	folder := t.TempDir()
	at := func(role trust.Role) tlsFiles {
		to := filepath.Join(folder, string(role))
		authority.Files(t, to, role)
		return tlsFiles{cert: filepath.Join(to, "tls.crt"), key: filepath.Join(to, "tls.key"), ca: filepath.Join(to, "ca.crt")}
	}
	connect := func(server trust.Role) (*jetstream.Engine, func()) {
		flags := natsFlags{tls: at(server)}
		flags.server.Folder = filepath.Join(folder, "data")
		url, stop := startNATS(t, flags)
		o := eventingOptions{storeEmbedded: true, storeTLS: at(trust.Eventing)}
		if err := o.storeSecrets(slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		o.store.URL, o.store.Patience = url, 5*time.Second
		e, err := jetstream.Open(o.store)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e, stop
	}
	e, stop := connect(trust.Controller)
	if err := e.PutTopic(t.Context(), engine.Topic{Name: "b.a.b.c"}); err == nil {
		t.Error("a server of the role controller was taken for the store")
	}
	stop()
	e, _ = connect(trust.NATS)
	if err := e.PutTopic(t.Context(), engine.Topic{Name: "b.a.b.c"}); err != nil {
		t.Error(err)
	}
}

// TestStoreSecrets: what is wrong is said with its flag.
func TestStoreSecrets(t *testing.T) {
	folder := t.TempDir()
	authority := trusttest.New(t)
	authority.Files(t, folder, trust.Eventing)
	empty := filepath.Join(folder, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	for reason, o := range map[string]eventingOptions{
		"--nats-embedded: ":               {storeEmbedded: true},
		"three files are needed":          {storeEmbedded: true, storeTLS: tlsFiles{cert: cert, key: key}},
		"--nats-tls-ca":                   {storeTLS: tlsFiles{ca: empty}},
		"both are needed":                 {storeTLS: tlsFiles{cert: cert}},
		"--nats-tls-cert, --nats-tls-key": {storeTLS: tlsFiles{cert: cert, key: empty}},
		"--nats-password-file":            {passwordFile: filepath.Join(folder, "none")},
		"":                                {storeTLS: tlsFiles{cert: cert, key: key, ca: filepath.Join(folder, "ca.crt")}},
	} {
		err := o.storeSecrets(slog.New(slog.DiscardHandler))
		if reason == "" && err != nil || reason != "" && (err == nil || !strings.Contains(err.Error(), reason)) {
			t.Errorf("%v; want %q", err, reason)
		}
	}
}
