package envoybin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version of the Envoy that is fetched, and with which Ebb is tested.
const Version = "1.40.0"

// ErrNotFound says that there is no Envoy on this machine yet.
var ErrNotFound = errors.New("no Envoy found in $ENVOY, the PATH or the cache")

// Search says where to look.
type Search struct {
	Given    string              // from a flag; must work when set
	Getenv   func(string) string // os.Getenv
	LookPath func(string) (string, error)
	Cache    string // folder: CACHE/VERSION/envoy
}

// Default searches $ENVOY, the PATH and the user's cache folder.
func Default(given string) (Search, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Search{}, fmt.Errorf("no cache folder (set $XDG_CACHE_HOME): %w", err)
	}
	return Search{Given: given, Getenv: os.Getenv, LookPath: exec.LookPath, Cache: filepath.Join(cache, "ebb", "envoy")}, nil
}

// Cached is where a fetched Envoy lies.
func (s Search) Cached() string { return filepath.Join(s.Cache, Version, "envoy") }

// Find returns the path of an Envoy and where it was found. A path that the user gave
// and that cannot be run is an error, not passed over; ErrNotFound means: fetch it.
func (s Search) Find() (path, source string, err error) {
	for _, wish := range []struct{ path, source string }{{s.Given, "--envoy"}, {s.Getenv("ENVOY"), "$ENVOY"}} {
		if wish.path == "" {
			continue
		}
		path, err := filepath.Abs(wish.path)
		if err != nil {
			return "", "", err
		}
		if err := executable(path); err != nil {
			return "", "", fmt.Errorf("%s: %w: name an Envoy program, or leave it out and one is found or fetched", wish.source, err)
		}
		return path, wish.source, nil
	}
	if path, err := s.LookPath("envoy"); err == nil {
		if abs, err := filepath.Abs(path); err == nil {
			return abs, "PATH", nil
		}
	}
	if executable(s.Cached()) == nil {
		return s.Cached(), "cache", nil
	}
	return "", "", ErrNotFound
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder; the program itself is wanted", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable (chmod +x it)", path)
	}
	return nil
}
