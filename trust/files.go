package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files is a Source of three PEM files. They are read again when one of them has changed; what cannot be
// used, as a key that is not the certificate's while both are being replaced, is logged, and the
// last good material stays in use. Methods may be called from several goroutines.
type Files struct {
	Certificate, Key, Authorities string
	Logger                        *slog.Logger // slog.Default when nil

	mu   sync.Mutex
	seen [3]stamp
	good *Material
}

// stamp tells one state of a file from another.
type stamp struct {
	written time.Time
	size    int64
	file    fs.FileInfo // of another file under the same name
}

func (s stamp) same(t stamp) bool {
	return s.file != nil && t.file != nil && s.written.Equal(t.written) && s.size == t.size && os.SameFile(s.file, t.file)
}

// Check reports what is wrong with the files, before they are needed.
func (f *Files) Check() error {
	if f.Certificate == "" || f.Key == "" || f.Authorities == "" {
		return errors.New("a certificate, its key and the authorities go together: three files are needed")
	}
	_, err := f.Material()
	return err
}

// Material looks at the files: three calls of stat where nothing has changed. It is an error only while
// nothing good was ever read.
func (f *Files) Material() (*Material, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var now [3]stamp
	changed := f.good == nil
	for i, path := range []string{f.Certificate, f.Key, f.Authorities} {
		info, err := os.Stat(path)
		if err != nil {
			return f.or(err)
		}
		now[i] = stamp{info.ModTime(), info.Size(), info}
		changed = changed || !now[i].same(f.seen[i])
	}
	if !changed {
		return f.good, nil
	}
	m, err := f.read()
	if err != nil {
		return f.or(err)
	}
	f.seen, f.good = now, m
	return m, nil
}

func (f *Files) read() (*Material, error) {
	var text [3][]byte
	for i, path := range []string{f.Certificate, f.Key, f.Authorities} {
		var err error
		if text[i], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	m, err := Parse(text[0], text[1], text[2])
	if err != nil {
		return nil, fmt.Errorf("%s, %s, %s: %w", f.Certificate, f.Key, f.Authorities, err)
	}
	return m, nil
}

// or is the last good material, or the error.
func (f *Files) or(err error) (*Material, error) {
	if f.good == nil {
		return nil, err
	}
	log := f.Logger
	if log == nil {
		log = slog.Default()
	}
	log.Warn("certificates: the files cannot be used now; the ones from before stay in use", "error", err)
	return f.good, nil
}
