package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ebb.dev/ebb/local/logs"
	"ebb.dev/ebb/local/shim"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Time limits of streams, as a kubelet's.
const (
	streamIdle     = 4 * time.Hour
	streamCreation = 30 * time.Second
)

// exec serves `kubectl exec`, and with it `kubectl cp`.
func (n *Node) exec(w http.ResponseWriter, q *http.Request) {
	c, o := n.streamed(w, q)
	if c == nil {
		return
	}
	remotecommand.ServeExec(w, q, streams{c}, c.p.name, string(c.p.uid), c.spec.Name, q.URL.Query()["command"], o, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

// attach serves `kubectl attach`.
func (n *Node) attach(w http.ResponseWriter, q *http.Request) {
	c, o := n.streamed(w, q)
	if c == nil {
		return
	}
	if o.Stdin && !c.spec.Stdin {
		http.Error(w, fmt.Sprintf("container %s of pod %s takes no input: its spec has no stdin", c.spec.Name, c.p.name), http.StatusBadRequest)
		return
	}
	remotecommand.ServeAttach(w, q, streams{c}, c.p.name, string(c.p.uid), c.spec.Name, o, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

func (n *Node) streamed(w http.ResponseWriter, q *http.Request) (*container, *remotecommand.Options) {
	pod := q.PathValue("namespace") + "/" + q.PathValue("pod")
	c := n.find(pod, q.PathValue("container"))
	if c == nil {
		http.Error(w, fmt.Sprintf("no container %s of pod %s on this node", q.PathValue("container"), pod), http.StatusNotFound)
		return nil, nil
	}
	o, err := remotecommand.NewOptions(q)
	if err == nil {
		_, _, err = c.running()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, nil
	}
	return c, o
}

// portForward serves `kubectl port-forward`.
func (n *Node) portForward(w http.ResponseWriter, q *http.Request) {
	name := q.PathValue("namespace") + "/" + q.PathValue("pod")
	p := n.findPod(name, types.UID(q.PathValue("uid")))
	if p == nil {
		http.Error(w, fmt.Sprintf("no pod %s on this node", name), http.StatusNotFound)
		return
	}
	o, err := portforward.NewV4Options(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, q, forward{p}, name, string(p.uid), o, streamIdle, streamCreation, portforward.SupportedProtocols)
}

// findPod looks for the pod, the newest one of the name when uid is "".
func (n *Node) findPod(name string, uid types.UID) *pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	var best *pod
	for _, p := range n.pods {
		if p.name == name && (uid == "" || p.uid == uid) && (best == nil || p.object().CreationTimestamp.After(best.object().CreationTimestamp.Time)) {
			best = p
		}
	}
	return best
}

// streams are those of one container.
type streams struct{ c *container }

// ExecInContainer implements remotecommand.Executor.
func (s streams) ExecInContainer(ctx context.Context, _, _, _ string, args []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	run, ended, err := s.c.running()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the end of the container is the end of what runs in it
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	command := shim.Command{Args: args, Terminal: tty}
	var streams piped
	if tty {
		master, slave, err := openTerminal()
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		go func() {
			for size := range resize {
				_ = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
			}
		}()
		if in != nil {
			go func() { _, _ = io.Copy(master, in) }()
		}
		if out != nil {
			streams.out.Go(func() { _, _ = io.Copy(out, master); master.Close() })
		}
		streams.files = []*os.File{slave}
		command.Stdin, command.Stdout, command.Stderr = slave, slave, slave
	} else {
		if in != nil {
			if command.Stdin, err = streams.input(in); err != nil {
				return err
			}
		}
		if out != nil {
			if command.Stdout, err = streams.output(out); err != nil {
				return err
			}
		}
		if errs != nil {
			if command.Stderr, err = streams.output(errs); err != nil {
				return err
			}
		}
	}
	code, err := run.Exec(ctx, s.c.p.n.cfg.Shim, command)
	streams.end()
	if err == nil && code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	var failed *shim.Error
	if errors.As(err, &failed) { // as a shell says it
		return utilexec.CodeExitError{Err: err, Code: 127}
	}
	return err
}

// openTerminal makes a terminal on the machine; its slave is the program's.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	c, err := master.SyscallConn()
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	var n int
	var failed error
	err = c.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			n, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err = errors.Join(err, failed); err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

// AttachContainer implements remotecommand.Attacher: what the container says from now
// on, and its input.
func (s streams) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	run, ended, err := s.c.running()
	if err != nil {
		return err
	}
	if in != nil {
		f, err := os.OpenFile(filepath.Join(run.Dir, shim.StdinFile), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		go func() {
			defer f.Close()
			_, _ = io.Copy(f, in)
		}()
	}
	o := logs.Options{Follow: true, Tail: 0}
	if s.c.spec.StdinOnce || s.c.spec.Stdin {
		o.Tail = -1 // whoever talks to it wants to see what it has asked
	}
	to := func(w io.Writer, wanted bool) io.Writer {
		if wanted {
			return w
		}
		return io.Discard
	}
	o.Errors = to(errs, errs != nil)
	return logs.Copy(ctx, to(out, out != nil), run.Dir, o, ended, func() {})
}

// forward connects to a pod's ports.
type forward struct{ p *pod }

// PortForward implements portforward.PortForwarder.
func (f forward) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	to, err := f.p.mains[0].port(intstr.FromInt32(port))
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(f.p.n.cfg.Address, strconv.Itoa(to)))
	if err != nil {
		return fmt.Errorf("port %d of pod %s: %w", port, f.p.name, err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(c, stream)
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
	}()
	go func() {
		_, _ = io.Copy(stream, c)
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return nil
}
