package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// contract tells what the container was given: its variables, its folder, what reading
// from standard input gives, and whether /tmp takes a file.
func contract(w http.ResponseWriter, _ *http.Request) {
	given := struct {
		Env             map[string]string
		Args            []string
		Dir, Stdin, Tmp string
	}{Env: map[string]string{}, Args: os.Args[1:]}
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		given.Env[name] = value
	}
	given.Dir, _ = os.Getwd()
	given.Stdin = "EOF"
	if n, err := os.Stdin.Read(make([]byte, 1)); err != io.EOF {
		given.Stdin = "not at its end"
		if n == 0 && err != nil {
			given.Stdin = err.Error()
		}
	}
	given.Tmp = "writable"
	file := filepath.Join("/tmp", "written-by-the-test-app")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		given.Tmp = err.Error()
	} else if err := os.Remove(file); err != nil {
		given.Tmp = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(given)
}
