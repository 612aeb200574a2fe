package shim

import (
	"bufio"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	defaultLogBytes = 10 << 20
	longestLine     = 16 << 10 // a longer one is written in parts, as CRI logs have it
	timeFormat      = "2006-01-02T15:04:05.000000000Z07:00"
)

// logWriter writes CRI log lines and keeps two files of at most max bytes each.
type logWriter struct {
	dir  string
	max  int64
	mu   sync.Mutex
	f    *os.File
	size int64
	buf  []byte
}

func openLog(dir string, limit int64) (*logWriter, error) {
	if limit <= 0 {
		limit = defaultLogBytes
	}
	l := &logWriter{dir: dir, max: limit}
	return l, l.open()
}

func (l *logWriter) open() (err error) {
	l.f, err = os.OpenFile(at(l.dir, LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if st, err := l.f.Stat(); err == nil {
		l.size = st.Size()
	}
	return nil
}

func (l *logWriter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// copy reads a stream to its end. Writing errors (a full disk) drop lines: the
// program must not block on its log.
func (l *logWriter) copy(stream string, from io.Reader) {
	r := bufio.NewReaderSize(from, longestLine)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			tag := " P "
			if line[len(line)-1] == '\n' {
				tag, line = " F ", line[:len(line)-1]
			} else if errors.Is(err, io.EOF) {
				tag = " F " // the last line of a stream needs no newline
			}
			l.write(stream, tag, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *logWriter) write(stream, tag string, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := time.Now().UTC().AppendFormat(l.buf[:0], timeFormat)
	b = append(b, ' ')
	b = append(b, stream...)
	b = append(b, tag...)
	b = append(b, line...)
	b = append(b, '\n')
	l.buf = b
	if l.size+int64(len(b)) > l.max && l.size > 0 {
		if os.Rename(at(l.dir, LogFile), at(l.dir, OldLog)) == nil {
			l.f.Close()
			if l.open() != nil {
				return
			}
		}
	}
	n, _ := l.f.Write(b)
	l.size += int64(n)
}
