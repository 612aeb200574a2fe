package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// activePoll is how often a draining gateway is asked for the requests it still has.
const activePoll = 50 * time.Millisecond

// Drain ends the traffic of one gateway without a failed request.
type Drain struct {
	Admin *Admin
	// Notice is how long the gateway goes on to take connections, while it says that it is not
	// ready and asks its clients to come by another one.
	Notice time.Duration
	// Timeout is how long requests that are being answered may take after that.
	Timeout time.Duration
	Logger  *slog.Logger

	noticed func(context.Context) // instead of Notice, in tests
}

// Run returns when the gateway has no request left, when the time is over, or when ctx ends, which
// is when the gateway is gone. An Envoy that cannot be asked is not waited for.
func (d Drain) Run(ctx context.Context) {
	// Not ready from now on. Every answer asks its client to leave: `Connection: close`, GOAWAY.
	for _, path := range []string{"/healthcheck/fail", "/drain_listeners?graceful&skip_exit"} {
		if err := d.Admin.post(ctx, path); err != nil {
			d.Logger.Error("drain", "error", err)
			return
		}
	}
	if d.noticed != nil {
		d.noticed(ctx)
	} else {
		wait(ctx, d.Notice)
	}
	if err := d.Admin.post(ctx, "/drain_listeners"); err != nil {
		d.Logger.Error("drain: close the listeners", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	for {
		active, err := d.Admin.active(ctx)
		if ctx.Err() != nil {
			d.Logger.Warn("drain: the time is over and requests are still being answered", "timeout", d.Timeout)
			return
		}
		if err != nil {
			d.Logger.Error("drain", "error", err)
			return
		}
		if active == 0 {
			return
		}
		wait(ctx, activePoll)
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Admin is Envoy's own interface.
type Admin struct {
	base   string
	client *http.Client
}

// NewAdmin is for an address as the bootstrap has it: "ip:port", or "unix:<path>".
func NewAdmin(address string) *Admin {
	transport := &http.Transport{Proxy: nil, DisableKeepAlives: true}
	base := "http://" + address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		base = "http://envoy"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	return &Admin{base: base, client: &http.Client{Transport: transport, Timeout: 5 * time.Second}}
}

// Ready asks once whether the gateway serves.
func (a *Admin) Ready(ctx context.Context) error {
	_, err := a.ask(ctx, http.MethodGet, "/ready")
	return err
}

func (a *Admin) post(ctx context.Context, path string) error {
	_, err := a.ask(ctx, http.MethodPost, path)
	return err
}

// active is how many requests of clients are being answered.
func (a *Admin) active(ctx context.Context) (uint64, error) {
	text, err := a.ask(ctx, http.MethodGet, "/stats?format=json&filter="+url.QueryEscape(`^http\..*\.downstream_rq_active$`))
	if err != nil {
		return 0, err
	}
	var answer struct {
		Stats []struct {
			Name  string `json:"name"`
			Value uint64 `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("read Envoy's statistics: %w", err)
	}
	sum := uint64(0)
	for _, s := range answer.Stats {
		if !strings.HasPrefix(s.Name, "http.admin.") {
			sum += s.Value
		}
	}
	return sum, nil
}

const answerAtMost = 64 << 20

func (a *Admin) ask(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerAtMost))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask Envoy: %s answers %s: %.200s", path, response.Status, text)
	}
	return text, err
}

// metrics passes on the page of metrics, however long: series of revisions without requests are left
// out. The error is of a page that has not begun.
func (a *Admin) metrics(ctx context.Context, w http.ResponseWriter) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/stats/prometheus?usedonly", nil)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Envoy: its metrics answer %s", response.Status)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = io.Copy(w, response.Body)
	return nil
}
