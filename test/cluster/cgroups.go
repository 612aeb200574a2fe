//go:build linux

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const cgroups = "/sys/fs/cgroup"

// hierarchies are the folders in which the node has its control groups: one for each controller,
// or with cgroup v2 only the one.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{cgroups}, nil
	}
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && (f[2] == "cgroup" || f[2] == "cgroup2") && filepath.Dir(f[1]) == cgroups {
			all = append(all, f[1])
		}
	}
	for _, needed := range []string{"cpu", "cpuacct", "cpuset", "memory", "pids"} {
		if !slices.ContainsFunc(all, func(dir string) bool { return slices.Contains(strings.Split(filepath.Base(dir), ","), needed) }) {
			return nil, errors.New("no control group hierarchy for " + needed + " is mounted under " + cgroups)
		}
	}
	return all, nil
}

// makeCgroups makes the node's parent group, which the kubelet wants to find in every hierarchy.
func (h *home) makeCgroups() error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		group := filepath.Join(dir, h.cgroup())
		if err := os.MkdirAll(group, 0o755); err != nil {
			return err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // cgroup v1: empty in a new group
			if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				_ = os.WriteFile(filepath.Join(group, file), text, 0o644)
			}
		}
		if text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers")); err == nil && dir == cgroups { // cgroup v2
			for c := range strings.FieldsSeq(string(text)) {
				for _, of := range []string{dir, group} {
					_ = os.WriteFile(filepath.Join(of, "cgroup.subtree_control"), []byte("+"+c), 0o644)
				}
			}
		}
	}
	return nil
}

// removeCgroups removes it with all below. The processes in them are gone or about to be.
func (h *home) removeCgroups() error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		var left error
		for _, dir := range dirs {
			var groups []string
			_ = filepath.WalkDir(filepath.Join(dir, h.cgroup()), func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					groups = append(groups, path)
				}
				return nil
			})
			for _, group := range slices.Backward(groups) { // children first
				if err := os.Remove(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
					left = err
				}
			}
		}
		if left == nil || time.Now().After(deadline) {
			return left
		}
		time.Sleep(50 * time.Millisecond)
	}
}
