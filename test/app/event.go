package main

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// reply answers an event in binary mode with one of the type that the query names: the attributes and data of the first,
// with the new type added to its id, so that one event is always answered with the same one.
func reply(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Query().Get("type")
	if kind == "" || r.Header.Get("Ce-Id") == "" {
		http.Error(w, "type is that of the answer, and the request has an event in binary mode", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			w.Header()[name] = values
		}
	}
	w.Header().Set("Ce-Type", kind)
	w.Header().Set("Ce-Id", r.Header.Get("Ce-Id")+"/"+kind)
	_, _ = w.Write(body)
}

// awaitGo returns when a URL answers 200: a service that starts when a test says so.
func awaitGo(url string) {
	client := &http.Client{Timeout: 10 * time.Second}
	for {
		if response, err := client.Get(url); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}
