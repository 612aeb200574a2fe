package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// unpacker applies layers to one folder that nobody else uses yet.
type unpacker struct {
	root    string
	limits  Limits
	bytes   int64
	entries int
	owner   bool      // may files belong to whom the layer says?
	modes   []dirMode // set at the end: a folder may forbid writing into it
	buf     []byte
}

type dirMode struct {
	path string
	mode fs.FileMode
}

func newUnpacker(root string, l Limits) *unpacker {
	return &unpacker{root: root, limits: l, owner: os.Getuid() == 0, buf: make([]byte, 128<<10)}
}

// What a whiteout is called (OCI image layer specification, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// layer applies one tar stream.
func (u *unpacker) layer(ctx context.Context, r io.Reader) error {
	written := map[string]bool{} // by this layer: an opaque whiteout spares them
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if u.entries++; u.entries > u.limits.Entries {
			return fmt.Errorf("more than %d files", u.limits.Entries)
		}
		if err := u.entry(h, t, written); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func (u *unpacker) entry(h *tar.Header, r io.Reader, written map[string]bool) error {
	name := path.Clean("/" + h.Name)
	if name == "/" {
		return nil
	}
	// Links in the folders above are followed, but never out of the root.
	parent, err := securejoin.SecureJoin(u.root, path.Dir(name))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	base := path.Base(name)
	to := filepath.Join(parent, base)
	if base == opaque {
		return u.clear(parent, written)
	}
	if gone, ok := strings.CutPrefix(base, whiteout); ok {
		if gone == "" || gone == "." || gone == ".." {
			return errors.New("a whiteout of nothing")
		}
		return removeAll(filepath.Join(parent, gone))
	}
	written[to] = true
	for p := parent; len(p) > len(u.root); p = filepath.Dir(p) {
		written[p] = true
	}

	old, err := os.Lstat(to)
	if err == nil && !(old.IsDir() && h.Typeflag == tar.TypeDir) {
		if err := removeAll(to); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		u.modes = append(u.modes, dirMode{to, mode})
	case tar.TypeReg:
		if err := u.file(to, h, r); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := os.Symlink(h.Linkname, to); err != nil {
			return err
		}
	case tar.TypeLink:
		target := path.Clean("/" + h.Linkname)
		from, err := securejoin.SecureJoin(u.root, path.Dir(target))
		if err != nil {
			return err
		}
		return os.Link(filepath.Join(from, path.Base(target)), to)
	default: // devices and pipes: an unprivileged user cannot make them, and services have none
		return nil
	}
	if u.owner {
		if err := os.Lchown(to, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeReg {
		return os.Chmod(to, mode.Perm()|mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	}
	return nil
}

func (u *unpacker) file(to string, h *tar.Header, r io.Reader) error {
	if u.bytes += h.Size; u.bytes > u.limits.Bytes {
		return fmt.Errorf("more than %d MB unpacked", u.limits.Bytes>>20)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, r, u.buf)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil && !h.ModTime.IsZero() {
		_ = os.Chtimes(to, time.Time{}, h.ModTime)
	}
	return err
}

// clear removes what lower layers put into a folder.
func (u *unpacker) clear(dir string, written map[string]bool) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if p := filepath.Join(dir, e.Name()); !written[p] {
			if err := removeAll(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish sets the folders' modes and makes the mount points that a container
// needs, so that a start has nothing left to make.
func (u *unpacker) finish() error {
	for _, d := range []string{"/dev", "/proc", "/sys", "/tmp", "/etc", "/run", "/var/tmp"} {
		p, err := securejoin.SecureJoin(u.root, d)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(p); err == nil {
			continue
		}
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(d, "tmp") {
			u.modes = append(u.modes, dirMode{p, 0o777 | fs.ModeSticky})
		}
	}
	for _, f := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		p, err := securejoin.SecureJoin(u.root, f)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(p); err == nil {
			continue
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			return err
		}
	}
	for _, m := range u.modes {
		mode := m.mode.Perm() | m.mode&(fs.ModeSetgid|fs.ModeSticky)
		if !u.owner {
			mode |= 0o700 // whoever unpacked it must be able to delete it
		}
		if st, err := os.Lstat(m.path); err != nil || !st.IsDir() {
			continue // a later layer replaced it
		}
		if err := os.Chmod(m.path, mode); err != nil {
			return err
		}
	}
	return nil
}
