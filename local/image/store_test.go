package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ebb.dev/ebb/local/image"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func layer(t testing.TB, files ...tar.Header) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range files {
		body := h.PAXRecords["EBB.body"]
		h.PAXRecords = nil
		h.Size = int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func file(n, body string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: n, PAXRecords: map[string]string{"EBB.body": body}}
}
func link(n, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: n, Linkname: to}
}
func hard(n, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: n, Linkname: to} }
func folder(n string, m int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: n, Mode: m}
}

// server is a registry that counts the downloads of manifests and blobs.
func server(t *testing.T) (host string, gets *atomic.Int32) {
	gets = new(atomic.Int32)
	inner := registry.New()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodGet && strings.Contains(q.URL.Path, "/blobs/") {
			gets.Add(1)
		}
		inner.ServeHTTP(w, q)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), gets
}

func push(t testing.TB, ref string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/app"}, Env: []string{"A=b"}, WorkingDir: "/work"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	return img
}

func store(t testing.TB) (*image.Store, string) {
	dir := filepath.Join(t.TempDir(), "images")
	s, err := image.Open(dir, image.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestLayers(t *testing.T) {
	host, _ := server(t)
	outside := filepath.Join(t.TempDir(), "outside")
	push(t, host+"/app:v1",
		layer(t, folder("usr", 0o755), folder("usr/bin", 0o755), file("usr/bin/app", "one"), link("bin", "usr/bin"), link("var/run", "/run"),
			file("gone/a", "x"), file("gone/b", "x"), file("cleared/old", "x"), folder("sealed", 0o555), file("sealed/in", "y"), file("becomes/dir", "f")),
		layer(t, file("bin/second", "through a link"), file("var/run/pid", "absolute link"), hard("hard", "usr/bin/app"), file("gone/.wh.a", ""),
			file("cleared/new", "n"), file("cleared/.wh..wh..opq", ""), file("../../escape", "kept inside"), link("out", outside+"/.."), file("out/outside", "kept inside too"),
			file(".wh.becomes", ""), file("becomes", "now a file"), file("sealed/later", "z")),
	)
	s, _ := store(t)
	img, err := s.Get(t.Context(), host+"/app:v1", image.IfNotPresent, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]string{"usr/bin/app": "one", "usr/bin/second": "through a link", "run/pid": "absolute link", "hard": "one",
		"gone/b": "x", "cleared/new": "n", "escape": "kept inside", "becomes": "now a file", "sealed/in": "y", "sealed/later": "z"} {
		b, err := os.ReadFile(filepath.Join(img.Rootfs, n))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q %v, want %q", n, b, err, want)
		}
	}
	for _, n := range []string{"gone/a", "cleared/old", "cleared/.wh..wh..opq", "gone/.wh.a"} {
		if _, err := os.Lstat(filepath.Join(img.Rootfs, n)); err == nil {
			t.Errorf("%s is there", n)
		}
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a layer wrote outside")
	}
	if st, _ := os.Stat(filepath.Join(img.Rootfs, "sealed")); st.Mode().Perm()&0o055 != 0o055 || st.Mode().Perm()&0o022 != 0 {
		t.Errorf("mode of a folder: %v", st.Mode())
	}
	if img.Config.WorkingDir != "/work" || img.Config.Entrypoint[0] != "/app" || !strings.HasPrefix(img.ID, host+"/app@sha256:") {
		t.Errorf("%+v", img)
	}
}

func TestOncePerDigest(t *testing.T) {
	host, gets := server(t)
	img := push(t, host+"/app:v1", layer(t, file("app", "one")))
	push(t, host+"/app:v2", layer(t, file("app", "one")))
	s, dir := store(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.Get(t.Context(), host+"/app:v1", image.Always, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := gets.Load(); n != 2 { // configuration and layer
		t.Errorf("%d blobs downloaded", n)
	}
	if _, err := s.Get(t.Context(), host+"/app:v2", image.Always, nil); err != nil || gets.Load() > 3 {
		t.Errorf("the same digest by another tag: %d blobs, %v", gets.Load(), err)
	}
	// Known after a restart, by tag and by digest, without the registry.
	d, _ := img.Digest()
	if _, err := s.Get(t.Context(), host+"/app@"+d.String(), image.Always, nil); err != nil {
		t.Error(err)
	}
	before := gets.Load()
	s, err := image.Open(dir, image.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	for ref, p := range map[string]image.Policy{host + "/app:v1": image.IfNotPresent, host + "/app@" + d.String(): image.Always, host + "/app:v2": image.Never} {
		if _, err := s.Get(t.Context(), ref, p, nil); err != nil || gets.Load() != before {
			t.Errorf("%s %s: %v", p, ref, err)
		}
	}
	// A tag that moved: Always sees it, IfNotPresent does not.
	push(t, host+"/app:v1", layer(t, file("app", "two")))
	for p, want := range map[image.Policy]string{image.Always: "two"} {
		i, err := s.Get(t.Context(), host+"/app:v1", p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(filepath.Join(i.Rootfs, "app")); string(b) != want {
			t.Errorf("%s: %q", p, b)
		}
	}
}

func TestErrors(t *testing.T) {
	host, _ := server(t)
	s, dir := store(t)
	if _, err := s.Get(t.Context(), "no spaces please", image.Always, nil); !errors.Is(err, image.ErrInvalidName) {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), host+"/x:v1", image.Never, nil); !errors.Is(err, image.ErrNeverPull) {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), host+"/nothing:v1", image.Always, nil); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("not the registry's words: %v", err)
	}
	push(t, host+"/big:v1", layer(t, file("a", "12345"), file("b", "12345")))
	small, err := image.Open(dir, image.Limits{Bytes: 8, Entries: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := small.Get(t.Context(), host+"/big:v1", image.Always, nil); err == nil || !strings.Contains(err.Error(), "unpacked") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
