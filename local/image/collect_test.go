package image_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"ebb.dev/ebb/local/image"
)

func TestCollect(t *testing.T) {
	host, gets := server(t)
	s, err := image.Open(t.TempDir(), image.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	roots := map[string]string{}
	refs := map[string]string{}
	for i, n := range []string{"used", "old", "newer", "fresh"} {
		refs[n] = host + "/" + n + ":v1"
		push(t, refs[n], layer(t, file("f", n), file("big", string(make([]byte, 1000)))))
		img, err := s.Get(t.Context(), refs[n], image.Always, nil)
		if err != nil {
			t.Fatal(err)
		}
		roots[n] = img.Rootfs
		if n != "fresh" { // asked for a while ago
			at := time.Now().Add(time.Duration(i-10) * time.Hour)
			if err := os.Chtimes(filepath.Join(filepath.Dir(img.Rootfs), "config.json"), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	used := func() map[string]bool { return map[string]bool{roots["used"]: true} }
	freed, removed, err := s.Collect(t.Context(), 500, time.Minute, used)
	if err != nil || removed != 1 || freed < 1000 {
		t.Errorf("first: %d bytes, %d images, %v", freed, removed, err)
	}
	there := func(want ...string) {
		t.Helper()
		got := 0
		for n := range roots {
			if s.Present(refs[n]) {
				got++
			}
		}
		for _, n := range want {
			if _, err := os.Stat(roots[n]); err != nil {
				t.Errorf("%s is gone: %v", n, err)
			}
		}
		if got != len(want) {
			t.Errorf("%d images are left, want %v", got, want)
		}
	}
	there("used", "newer", "fresh")
	// Whoever looks for an image may be about to use it, and there() has.
	at := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(filepath.Dir(roots["newer"]), "config.json"), at, at); err != nil {
		t.Fatal(err)
	}
	if _, removed, err = s.Collect(t.Context(), 1<<40, time.Minute, used); err != nil || removed != 1 {
		t.Errorf("all: %d images, %v", removed, err)
	}
	there("used", "fresh")
	before := gets.Load()
	if _, err := s.Get(t.Context(), refs["old"], image.IfNotPresent, nil); err != nil || gets.Load() == before {
		t.Errorf("an image that was removed is pulled again: %v", err)
	}
}

func TestRootOf(t *testing.T) {
	host, _ := server(t)
	s, err := image.Open(t.TempDir(), image.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	push(t, host+"/some:v1", layer(t, file("f", "x")))
	img, err := s.Get(t.Context(), host+"/some:v1", image.Always, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{img.Rootfs, filepath.Join(img.Rootfs, "deep/er")} {
		if root, ok := s.RootOf(path); !ok || root != img.Rootfs {
			t.Errorf("%s: %q %v", path, root, ok)
		}
	}
	if root, ok := s.RootOf("/etc/hosts"); ok {
		t.Errorf("/etc/hosts is in %s", root)
	}
}
