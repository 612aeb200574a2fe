package registry_test

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"ebb.dev/ebb/local/registry"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	open := func() *httptest.Server {
		r, err := registry.Open(dir, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return httptest.NewServer(r)
	}
	tag := func(s *httptest.Server, n string) name.Reference {
		r, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/" + n)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s := open()
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := random.Image(1000, 1)
	index, _ := random.Index(1000, 2, 2)
	for _, i := range []string{"team/app:v1", "team/app:latest"} {
		if err := remote.Write(tag(s, i), img); err != nil {
			t.Fatal(err)
		}
	}
	if err := remote.Write(tag(s, "team/app:latest"), other); err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag(s, "team/multi:v1"), index); err != nil {
		t.Fatal(err)
	}
	s.Close()

	s = open()
	defer s.Close()
	got, err := remote.Image(tag(s, "team/app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, a, b string) {
		if a != b {
			t.Errorf("%s: %s, want %s", what, a, b)
		}
	}
	d1, _ := got.Digest()
	d2, _ := img.Digest()
	same("v1", d1.String(), d2.String())
	ls, err := got.Layers()
	if err != nil || len(ls) != 3 {
		t.Fatal(len(ls), err)
	}
	for _, l := range ls {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n < 1000 {
			t.Error(n, err)
		}
	}
	desc, err := remote.Head(tag(s, "team/app:latest"))
	if err != nil {
		t.Fatal(err)
	}
	d3, _ := other.Digest()
	same("latest", desc.Digest.String(), d3.String())
	idx, err := remote.Index(tag(s, "team/multi:v1"))
	if err != nil {
		t.Fatal(err)
	}
	d4, _ := idx.Digest()
	d5, _ := index.Digest()
	same("index", d4.String(), d5.String())
}
