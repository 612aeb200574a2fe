package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/local/logs"
)

// APIConfig is the node's side of the kubelet API, or of metrics.k8s.io.
type APIConfig struct {
	Listen    string // host:port
	Cert, Key string // PEM files of the server
	ClientCA  string // PEM file; a client must have a certificate of this CA
	// ClientName is the common name of the one client that may ask; "" is any of the CA.
	ClientName string
}

// serve answers the kubelet API over TLS until the context ends.
func (n *Node) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.containerLogs)
	for _, method := range []string{"GET", "POST"} {
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", n.exec)
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", n.exec)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", n.attach)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", n.attach)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", n.portForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", n.portForward)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		http.Error(w, "the embedded node does not have "+q.URL.Path, http.StatusNotImplemented)
	})
	return serveTLS(ctx, n.api, n.cfg.API, mux)
}

// serveTLS answers the clients of c over TLS until the context ends.
func serveTLS(ctx context.Context, l net.Listener, c APIConfig, h http.Handler) error {
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("client CA %s: no certificate in it", c.ClientCA)
	}
	s := &http.Server{
		Handler: allow(c.ClientName, h), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12},
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// allow lets the one client of the name in; "" is any.
func allow(want string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if who := q.TLS.PeerCertificates[0].Subject.CommonName; want != "" && who != want {
			http.Error(w, fmt.Sprintf("%q may not ask this node", who), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, q)
	})
}

// logOptions reads the query of containerLogs; the error names the parameter.
func logOptions(v url.Values) (o logs.Options, previous bool, err error) {
	number := func(name string, none int64) int64 {
		s := v.Get(name)
		if s == "" {
			return none
		}
		n, e := strconv.ParseInt(s, 10, 64)
		if e != nil || n < 0 {
			err = fmt.Errorf("%s=%q: a number of 0 or more is expected", name, s)
		}
		return n
	}
	flag := func(name string) bool { return v.Get(name) == "true" || v.Get(name) == "1" }
	o = logs.Options{Follow: flag("follow"), Timestamps: flag("timestamps"), Tail: number("tailLines", -1), LimitBytes: number("limitBytes", 0)}
	if s := number("sinceSeconds", 0); s > 0 {
		o.Since = time.Now().Add(-time.Duration(s) * time.Second)
	}
	if s := v.Get("sinceTime"); s != "" {
		t, e := time.Parse(time.RFC3339, s)
		if e != nil {
			err = fmt.Errorf("sinceTime=%q: a time like 2026-01-02T15:04:05Z is expected", s)
		}
		o.Since = t
	}
	return o, flag("previous"), err
}

func (n *Node) containerLogs(w http.ResponseWriter, q *http.Request) {
	o, previous, err := logOptions(q.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := n.find(q.PathValue("namespace")+"/"+q.PathValue("pod"), q.PathValue("container"))
	if c == nil {
		http.Error(w, fmt.Sprintf("no container %s of pod %s/%s on this node", q.PathValue("container"), q.PathValue("namespace"), q.PathValue("pod")), http.StatusNotFound)
		return
	}
	dir, ended, err := c.logFolder(previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	flusher := http.NewResponseController(w)
	_ = flusher.Flush() // the headers now: a follower may wait long for the first line
	if err := logs.Copy(q.Context(), w, dir, o, ended, func() { _ = flusher.Flush() }); err != nil && q.Context().Err() == nil {
		n.log.Warn("read a container's log", "pod", c.p.name, "container", c.spec.Name, "error", err)
	}
}

// find looks for the newest pod of the name.
func (n *Node) find(pod, name string) *container {
	n.mu.Lock()
	defer n.mu.Unlock()
	var best *container
	for _, p := range n.pods {
		if p.name != pod {
			continue
		}
		for _, c := range p.all() {
			if c.spec.Name == name && (best == nil || p.object().CreationTimestamp.After(best.p.object().CreationTimestamp.Time)) {
				best = c
			}
		}
	}
	return best
}

// logFolder is the folder of the newest run, or of the one before, and a channel
// that is closed when nothing more will be written there.
func (c *container) logFolder(previous bool) (string, <-chan struct{}, error) {
	closed := make(chan struct{})
	close(closed)
	n := c.attempts()
	c.p.mu.Lock()
	dir, ended, running := c.runDir, c.ended, c.current != nil
	state := c.state.Waiting
	c.p.mu.Unlock()
	if previous {
		if i := slices.Index(n, int(attemptOf(dir))); dir != "" && i > 0 {
			return c.folder(n[i-1]), closed, nil
		}
		return "", nil, fmt.Errorf("previous terminated container %q in pod %q not found", c.spec.Name, c.p.name)
	}
	if dir == "" {
		why := "is waiting to start"
		if state != nil {
			why += ": " + strings.TrimSuffix(state.Reason+": "+state.Message, ": ")
		}
		return "", nil, fmt.Errorf("container %q in pod %q %s", c.spec.Name, filepath.Base(c.p.name), why)
	}
	if !running {
		ended = closed
	}
	return dir, ended, nil
}
