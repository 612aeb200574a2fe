package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Options are those of `kubectl logs`.
type Options struct {
	Follow     bool
	Timestamps bool
	Tail       int64     // last lines; negative is all
	Since      time.Time // zero is all
	LimitBytes int64     // 0 is no limit
	Errors     io.Writer // takes what the container wrote to stderr; nil: Copy's writer takes all
}

// Names of the current and the older file; both are of local/shim.
const (
	current = "log"
	older   = "log.1"
)

// errLimit ends a reading whose LimitBytes are written.
var errLimit = errors.New("limit")

// Copy writes the log of a container's folder. With Follow it goes on until the
// context ends or ended is closed and all that was written is read. flush is
// called when there is nothing more for now. An error of w ends it.
func Copy(ctx context.Context, w io.Writer, dir string, o Options, ended <-chan struct{}, flush func()) error {
	out := &printer{w: w, o: o, left: o.LimitBytes}
	var back *os.File
	f, err := os.Open(filepath.Join(dir, current))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if b, err := os.Open(filepath.Join(dir, older)); err == nil {
		back = b
	}
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	var r reader
	if back != nil {
		defer back.Close()
	}
	skip, err := linesToSkip(o.Tail, back, f)
	if err != nil {
		return err
	}
	out.skip = skip
	if back != nil {
		if err := r.drain(back, out); err != nil {
			return unlessLimit(err)
		}
	}
	for {
		over := false
		select {
		case <-ended:
			over = true // read once more after this: its last lines
		default:
		}
		if f == nil {
			if f, err = os.Open(filepath.Join(dir, current)); err != nil {
				f = nil
			}
		}
		if f != nil {
			if err := r.drain(f, out); err != nil {
				return unlessLimit(err)
			}
			if next := rotated(f, dir); next != nil {
				if err := r.drain(f, out); err != nil { // written between reading and turning
					return unlessLimit(err)
				}
				f.Close()
				f = next
				continue
			}
		}
		flush()
		if !o.Follow || over {
			return nil
		}
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-ended:
		case <-t.C:
		}
		t.Stop()
	}
}

func unlessLimit(err error) error {
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// rotated returns the new current file when f is not it any more.
func rotated(f *os.File, dir string) *os.File {
	a, err := f.Stat()
	if err != nil {
		return nil
	}
	b, err := os.Stat(filepath.Join(dir, current))
	if err != nil || os.SameFile(a, b) {
		return nil
	}
	n, err := os.Open(filepath.Join(dir, current))
	if err != nil {
		return nil
	}
	return n
}

// linesToSkip counts the full lines of the files, so that tail are left.
func linesToSkip(tail int64, files ...*os.File) (int64, error) {
	if tail < 0 {
		return 0, nil
	}
	var n int64
	buf := make([]byte, 64<<10)
	for _, f := range files {
		if f == nil {
			continue
		}
		for r := bufio.NewReaderSize(f, len(buf)); ; {
			line, err := r.ReadSlice('\n')
			if l, ok := parse(line); ok && l.full {
				n++
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return 0, err
			}
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
	}
	return max(n-tail, 0), nil
}

// reader keeps the beginning of a line whose end is not written yet.
type reader struct{ part []byte }

func (r *reader) drain(f *os.File, out *printer) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		b := buf[:n]
		for len(b) > 0 {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				r.part = append(r.part, b...)
				break
			}
			line := b[:i+1]
			if len(r.part) > 0 {
				line = append(r.part, line...)
			}
			if err := out.print(line); err != nil {
				return err
			}
			r.part, b = r.part[:0], b[i+1:]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type line struct {
	time string
	errs bool // from stderr
	full bool
	text []byte
}

// parse takes a CRI line apart: TIME STREAM F|P TEXT.
func parse(b []byte) (line, bool) {
	f := bytes.SplitN(bytes.TrimSuffix(b, []byte("\n")), []byte(" "), 4)
	if len(f) < 4 {
		return line{}, false
	}
	return line{string(f[0]), string(f[1]) == "stderr", string(f[2]) == "F", f[3]}, true
}

type printer struct {
	w      io.Writer
	o      Options
	skip   int64
	left   int64
	within bool // in the middle of a line written in parts
}

func (p *printer) print(b []byte) error {
	l, ok := parse(b)
	if !ok {
		return nil
	}
	if p.skip > 0 {
		if l.full {
			p.skip--
		}
		return nil
	}
	if !p.o.Since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, l.time); err == nil && t.Before(p.o.Since) {
			return nil
		}
	}
	var out []byte
	if p.o.Timestamps && !p.within {
		out = append(append(out, l.time...), ' ')
	}
	out = append(out, l.text...)
	p.within = !l.full
	if l.full {
		out = append(out, '\n')
	}
	limited := p.o.LimitBytes > 0
	if limited && int64(len(out)) > p.left {
		out = out[:p.left]
	}
	w := p.w
	if l.errs && p.o.Errors != nil {
		w = p.o.Errors
	}
	if _, err := w.Write(out); err != nil {
		return err
	}
	if p.left -= int64(len(out)); limited && p.left <= 0 {
		return errLimit
	}
	return nil
}
