package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Collect removes images until about that many bytes are free, those that were asked for
// longest ago first. What used names by its root folder stays, and what was asked for within rest: its
// container may be about to start. It tells how many bytes and images are gone.
func (s *Store) Collect(ctx context.Context, bytes uint64, rest time.Duration, used func() map[string]bool) (freed uint64, removed int, err error) {
	type candidate struct {
		dir  string
		last time.Time
	}
	var all []candidate
	dirs, err := filepath.Glob(filepath.Join(s.dir, "sha256-*"))
	if err != nil {
		return 0, 0, err
	}
	for _, dir := range dirs {
		if last, ok := lastUse(dir); ok {
			all = append(all, candidate{dir, last})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return a.last.Compare(b.last) })
	for _, c := range all {
		if freed >= bytes || ctx.Err() != nil {
			break
		}
		gone, size, err := s.remove(c.dir, rest, used)
		if err != nil {
			return freed, removed, err
		}
		if gone {
			freed, removed = freed+size, removed+1
		}
	}
	return freed, removed, ctx.Err()
}

// lastUse is when somebody last asked for an image; false when it is not there.
func lastUse(dir string) (time.Time, bool) {
	info, err := os.Stat(filepath.Join(dir, "config.json"))
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// remove takes an image away in one step: mu keeps everybody from finding it meanwhile.
func (s *Store) remove(dir string, rest time.Duration, used func() map[string]bool) (bool, uint64, error) {
	gone := filepath.Join(s.dir, ".pull-gone-"+filepath.Base(dir)) // what is left of it is removed at the next start
	err := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if last, ok := lastUse(dir); !ok || time.Since(last) < rest || used()[filepath.Join(dir, "rootfs")] {
			return fs.ErrExist
		}
		if err := os.Rename(dir, gone); err != nil {
			return err
		}
		digest := strings.Replace(filepath.Base(dir), "-", ":", 1)
		for ref, d := range s.refs {
			if d == digest {
				delete(s.refs, ref)
			}
		}
		return s.saveRefs()
	}()
	if errors.Is(err, fs.ErrExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	var size uint64
	_ = filepath.WalkDir(gone, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size += uint64(info.Size()) //nolint:gosec // positive
			}
		}
		return nil
	})
	return true, size, removeAll(gone)
}
