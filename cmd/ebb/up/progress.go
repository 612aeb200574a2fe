package up

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress prints lines that begin with the seconds since it was made. Safe for
// concurrent use.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

// NewProgress counts from now.
func NewProgress(out io.Writer) *Progress { return &Progress{out: out, began: time.Now()} }

// Line prints one line.
func (p *Progress) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%7.1fs  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// Print prints without a time.
func (p *Progress) Print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format, args...)
}
