package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"ebb.dev/ebb/local/shim"
)

// commandOutput bounds what is kept of a probe's or a hook's output.
const commandOutput = 10 << 10

// command runs a probe's or a hook's command in a run of the container. Its error says
// why it failed, with what the command said.
func (c *container) command(ctx context.Context, run *shim.Container, args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, commandOutput))
		said <- string(b)
		_, _ = io.Copy(io.Discard, r)
	}()
	code, err := run.Exec(ctx, c.p.n.cfg.Shim, shim.Command{Args: args, Stdout: w, Stderr: w})
	w.Close()
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("command %q timed out", args[0])
		}
		return err
	}
	if code == 0 {
		return nil
	}
	// A process that it has left behind may hold its output open.
	text := ""
	select {
	case text = <-said:
	case <-ctx.Done():
	}
	return fmt.Errorf("command %q exits with %d: %s", args[0], code, strings.TrimSpace(strings.ToValidUTF8(text, "?")))
}

// running is the container's present run; an error says why there is none.
func (c *container) running() (*shim.Container, <-chan struct{}, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.current == nil {
		return nil, nil, fmt.Errorf("container %s of pod %s is not running", c.spec.Name, c.p.name)
	}
	return c.current, c.ended, nil
}

// piped connects streams with the descriptors of a program.
type piped struct {
	files []*os.File // the program's ends
	out   sync.WaitGroup
}

func (p *piped) input(from io.Reader) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.files = append(p.files, r)
	go func() {
		_, _ = io.Copy(w, from)
		w.Close()
	}()
	return r, nil
}

func (p *piped) output(to io.Writer) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.files = append(p.files, w)
	p.out.Go(func() { _, _ = io.Copy(to, r); r.Close() }) // a client that has gone is a closed pipe
	return w, nil
}

// end closes the program's ends, which this process holds too, and waits for the rest of the output.
func (p *piped) end() {
	for _, f := range p.files {
		f.Close()
	}
	p.out.Wait()
}
