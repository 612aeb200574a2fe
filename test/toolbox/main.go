package main

import (
	"archive/tar"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	if err := run(filepath.Base(os.Args[0]), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(name string, args []string) error {
	switch name {
	case "python":
		file := args[len(args)-1]
		if _, err := os.Stat(file); err != nil {
			return err
		}
		return http.ListenAndServe(":"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test's
			if url := r.URL.Query().Get("get"); url != "" {
				if err := get(w, url); err != nil {
					http.Error(w, err.Error(), http.StatusBadGateway)
				}
				return
			}
			http.ServeFile(w, r, file)
		}))
	case "get":
		return get(os.Stdout, args[0])
	case "cat":
		if len(args) == 0 {
			_, err := io.Copy(os.Stdout, os.Stdin)
			return err
		}
		b, err := os.ReadFile(args[0])
		if err == nil {
			_, err = os.Stdout.Write(b)
		}
		return err
	case "write":
		return os.WriteFile(args[0], []byte(args[1]), 0o644) //nolint:gosec // read by others
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "tar":
		return archive(args)
	}
	return fmt.Errorf("no tool %s", name)
}

func get(w io.Writer, url string) error {
	answer, err := http.Get(url) //nolint:gosec // the test says which
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	_, err = io.Copy(w, answer.Body)
	return err
}

// archive is the tar that kubectl cp calls: cf - FILE, and xmf - -C DIR.
func archive(args []string) error {
	if args[0] == "cf" {
		file := args[len(args)-1]
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		w := tar.NewWriter(os.Stdout)
		if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(file, "/"), Size: int64(len(b)), Mode: 0o644}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		return w.Close()
	}
	r := tar.NewReader(os.Stdin)
	h, err := r.Next()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(args[len(args)-1], filepath.Base(h.Name)), b, 0o644); err != nil { //nolint:gosec // read by others
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
