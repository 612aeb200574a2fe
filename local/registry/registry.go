package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// largestManifest bounds what one PUT of a manifest may hold, as registries do.
const largestManifest = 4 << 20

// Registry is an http.Handler. The library keeps manifests in memory, so each
// accepted PUT of one is kept as a file and played back at the start.
type Registry struct {
	inner http.Handler
	dir   string
	mu    sync.Mutex // writing a manifest: the file's order is the memory's order
}

// saved is one accepted PUT.
type saved struct {
	Path        string    `json:"path"` // /v2/REPOSITORY/manifests/TAG-or-DIGEST
	ContentType string    `json:"contentType"`
	Time        time.Time `json:"time"`
	Body        []byte    `json:"body"`
}

// Open makes a registry on a folder. What is not readable there is an error that
// names the file.
func Open(dir string, logger *slog.Logger) (*Registry, error) {
	for _, d := range []string{"blobs", "manifests"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	r := &Registry{dir: dir, inner: registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(filepath.Join(dir, "blobs"))),
		registry.Logger(log.New(io.Discard, "", 0)),
	)}
	n, err := r.replay()
	if err != nil {
		return nil, err
	}
	logger.Info("registry opened", "dir", dir, "manifests", n)
	return r, nil
}

func (r *Registry) replay() (int, error) {
	files, err := filepath.Glob(filepath.Join(r.dir, "manifests", "*.json"))
	if err != nil {
		return 0, err
	}
	var all []saved
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		var s saved
		if err := json.Unmarshal(b, &s); err != nil {
			return 0, fmt.Errorf("%s: %w; delete the file and push that image again", f, err)
		}
		all = append(all, s)
	}
	// An index is accepted only after its images: the order of the pushes.
	slices.SortFunc(all, func(a, b saved) int { return a.Time.Compare(b.Time) })
	for _, s := range all {
		q := httptest.NewRequest(http.MethodPut, s.Path, bytes.NewReader(s.Body))
		q.Header.Set("Content-Type", s.ContentType)
		w := httptest.NewRecorder()
		r.inner.ServeHTTP(w, q)
		if w.Code >= 300 {
			return 0, fmt.Errorf("manifest %s: %d %s", s.Path, w.Code, strings.TrimSpace(w.Body.String()))
		}
	}
	return len(all), nil
}

var manifestPath = regexp.MustCompile(`^/v2/.+/manifests/[^/]+$`)

func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	change := q.Method == http.MethodPut || q.Method == http.MethodDelete
	if !change || !manifestPath.MatchString(q.URL.Path) {
		r.inner.ServeHTTP(w, q)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, largestManifest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := httptest.NewRecorder()
	r.inner.ServeHTTP(answer, q)
	if answer.Code < 300 {
		// Kept before it is confirmed: what a client was told is pushed stays pushed.
		if q.Method == http.MethodPut {
			err = r.keep(saved{q.URL.Path, q.Header.Get("Content-Type"), time.Now(), body})
		} else if err = os.Remove(r.file(q.URL.Path)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			http.Error(w, "keep the manifest: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (r *Registry) file(path string) string {
	h := sha256.Sum256([]byte(path))
	return filepath.Join(r.dir, "manifests", hex.EncodeToString(h[:])+".json")
}

func (r *Registry) keep(s saved) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	to := r.file(s.Path)
	if err := os.WriteFile(to+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
