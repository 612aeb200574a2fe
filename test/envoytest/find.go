package envoytest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNotFound means that there is no Envoy on this machine.
var ErrNotFound = errors.New("no Envoy: run `make envoy`, put envoy on the PATH or set $ENVOY to the binary")

// Find returns the path of the Envoy to use. A $ENVOY that is no file is an
// error of its own, so that a misspelt one does not skip every test.
func Find() (string, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("$ENVOY: %w", err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	if cache, err := os.UserCacheDir(); err == nil {
		found, err := filepath.Glob(filepath.Join(cache, "ebb", "envoy", "*", "envoy"))
		if err == nil && len(found) > 0 {
			return found[len(found)-1], nil // sorted: the newest version
		}
	}
	return "", ErrNotFound
}
