package jetstream_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/natsserver"
)

// TestMain is the server's process as well: this binary started with EBB_TEST_NATS, a folder.
func TestMain(m *testing.M) {
	folder := os.Getenv("EBB_TEST_NATS")
	if folder == "" {
		os.Exit(m.Run())
	}
	var logger *slog.Logger
	if os.Getenv("EBB_TEST_NATS_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := natsserver.Start(context.Background(), natsserver.Options{
		Listen: "127.0.0.1:" + os.Getenv("EBB_TEST_NATS_PORT"), Folder: folder, MaxStore: 1 << 50, Logger: logger,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	// The test holds the other end: the server never outlives it.
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	s.Shutdown()
}

// process is a NATS server in a process of its own.
type process struct {
	t           testing.TB
	folder, url string
	cmd         *exec.Cmd
}

func startServer(t testing.TB) *process {
	t.Helper()
	p := &process{t: t, folder: t.TempDir()}
	p.start("0")
	t.Cleanup(p.kill)
	return p
}

func (p *process) start(port string) {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), "EBB_TEST_NATS="+p.folder, "EBB_TEST_NATS_PORT="+port)
	p.cmd.Stderr = os.Stderr
	if _, err := p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.t.Fatalf("the NATS server did not start: %v", err)
	}
	p.url = strings.TrimSpace(line)
}

// kill is SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// again starts the server on the same address and folder.
func (p *process) again() {
	p.t.Helper()
	p.start(p.url[strings.LastIndexByte(p.url, ':')+1:])
}

func openAt(t testing.TB, url string) *jetstream.Engine {
	t.Helper()
	e, err := jetstream.Open(jetstream.Options{URL: url, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func opener(p *process) func(testing.TB) engine.Engine {
	return func(t testing.TB) engine.Engine { return openAt(t, p.url) }
}
