// Command generate writes the files of config/ that are made from package install into a folder, and removes
// those of base/ and chart/templates/ that are none of them.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ebb.dev/ebb/config/install/render"
)

func main() {
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func generate(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: generate DIR")
	}
	files, err := render.Generated()
	if err != nil {
		return err
	}
	for _, pattern := range []string{"base/*.yaml", "chart/templates/*.yaml"} {
		old, err := filepath.Glob(filepath.Join(args[0], pattern))
		if err != nil {
			return err
		}
		for _, path := range old {
			name, err := filepath.Rel(args[0], path)
			if err != nil {
				return err
			}
			if _, ok := files[filepath.ToSlash(name)]; !ok {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	for name, text := range files {
		path := filepath.Join(args[0], filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
