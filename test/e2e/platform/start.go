package platform

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/apis/networking/v1alpha1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/test/envoytest"
)

// Platform is a running `ebb up`. Safe for concurrent use.
type Platform struct {
	client.WithWatch // of an administrator

	Config *rest.Config
	Data   string // its folder
	Ebb    string // path of the ebb program; the others are beside it
	Wires  *Wires // nil when it has none

	cluster *existing // nil: the embedded default

	dir    datadir.Dir
	env    []string // of `ebb up`, beside this process's
	events bool     // with the eventing part
	images images

	mu  sync.Mutex
	run *process
}

// process is one run of `ebb up`.
type process struct {
	cmd    *exec.Cmd
	output *tail
	gone   chan struct{} // closed when it has ended
	err    error         // of Wait, once gone
}

// ErrNotBuilt says what has to be built before a platform can run.
var ErrNotBuilt = errors.New("run `make build` first")

const (
	startDeadline = 3 * time.Minute
	stopDeadline  = 90 * time.Second
	folderPrefix  = "ebb-e2e-"
)

// Start starts a platform with free ports and a folder of its own, with more flags of `ebb up` if any are
// given, and returns when it is ready. It has no eventing part unless WithEventing is among the flags. Without programs or an Envoy the error is ErrNotBuilt or envoytest.ErrNotFound.
// The caller calls Close.
func Start(ctx context.Context, flags ...string) (*Platform, error) { return begin(ctx, false, flags) }

// WithEventing is the flag of a platform with Brokers and the store of events.
const WithEventing = "--eventing"

func begin(ctx context.Context, wired bool, flags []string) (*Platform, error) {
	sweep()
	ebb := program()
	for _, name := range []string{"ebb", "ebb-kube", "ebb-node", "ebb-shim"} {
		path := filepath.Join(filepath.Dir(ebb), name)
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("no %s: %w", path, ErrNotBuilt)
		}
	}
	envoy, err := envoytest.Find()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return nil, err
	}
	dir, err := datadir.At(data)
	if err != nil {
		return nil, err
	}
	p := &Platform{Data: data, Ebb: ebb, dir: dir, events: slices.Contains(flags, WithEventing)}
	if wired {
		envoy, err = p.wire(envoy)
	}
	if err == nil {
		err = p.start(ctx, append([]string{"--envoy", envoy}, flags...))
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// program is the path of ebb: $EBB, or what `make ebb` builds.
func program() string {
	if path := os.Getenv("EBB"); path != "" {
		return path
	}
	return filepath.Join(Root(), "bin", "ebb")
}

func (p *Platform) start(ctx context.Context, flags []string) error {
	up := make(chan error, 1)
	if p.Wires != nil {
		waiting, cancel := context.WithTimeout(ctx, startDeadline)
		defer cancel()
		go func() { up <- p.Wires.await(waiting, p) }()
	} else {
		up <- nil
	}
	if err := errors.Join(p.Up(ctx, flags...), <-up); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", p.dir.Kubeconfig())
	if err != nil {
		return err
	}
	if p.Wires != nil {
		config.Host = "https://" + p.Wires.apiServer
	}
	return p.connect(config)
}

// connect makes the clients.
func (p *Platform) connect(config *rest.Config) (err error) {
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	log.SetLogger(logr.Discard()) // of the clients
	scheme := kruntime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme), v1beta1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme),
		eventingv1.AddToScheme(scheme), messagingv1.AddToScheme(scheme), flowsv1.AddToScheme(scheme), sourcesv1.AddToScheme(scheme)); err != nil {
		return err
	}
	p.Config = config
	p.WithWatch, err = client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper(scheme)})
	return err
}

// mapper knows all kinds of the scheme, so that no discovery is needed.
func mapper(scheme *kruntime.Scheme) meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(scheme.PrioritizedVersionsAllGroups())
	for gvk := range scheme.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		switch gvk.Kind {
		case "Namespace", "Node", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "PersistentVolume", "PriorityClass", "RuntimeClass", v1alpha1.KindClusterDomainClaim:
			scope = meta.RESTScopeRoot
		}
		m.Add(gvk, scope)
	}
	return m
}

// Up runs `ebb up` on the platform's folder, after Down, and returns when it is ready.
// Ports and state are those of before.
func (p *Platform) Up(ctx context.Context, args ...string) error {
	run, err := p.spawn(append([]string{"up", "--data", p.Data, "--port", "0", fmt.Sprintf("--eventing=%t", p.events)}, args...))
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.run = run
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	err = poll(ctx, func() error {
		select {
		case <-run.gone:
			return final{fmt.Errorf("`ebb up` ended (%w)", run.err)}
		default:
		}
		if _, up := p.dir.ReadRunning(); !up {
			return errors.New("`ebb up` is not ready")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w; it printed:\n%s", err, run.output)
	}
	return nil
}

// spawn starts an ebb that gets SIGTERM when this process dies, however it dies. The
// kernel ties that to the thread that forked, which therefore waits with it.
func (p *Platform) spawn(args []string) (*process, error) {
	run := &process{cmd: exec.Command(p.Ebb, args...), output: &tail{}, gone: make(chan struct{})}
	run.cmd.Stdout, run.cmd.Stderr = run.output, run.output
	run.cmd.Env = append(append(os.Environ(), "KUBECONFIG="), p.env...)
	run.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := run.cmd.Start()
		started <- err
		if err == nil {
			run.err = run.cmd.Wait()
			close(run.gone)
		}
	}()
	return run, <-started
}

// Down ends `ebb up` with a signal and returns when it is gone and what it printed.
func (p *Platform) Down(signal syscall.Signal) (string, error) {
	p.mu.Lock()
	run := p.run
	p.mu.Unlock()
	if run == nil {
		return "", nil
	}
	_ = run.cmd.Process.Signal(signal)
	select {
	case <-run.gone:
		return run.output.String(), nil
	case <-time.After(stopDeadline):
		_ = run.cmd.Process.Kill()
		<-run.gone
		return run.output.String(), fmt.Errorf("`ebb up` did not end within %s of %s; it printed:\n%s", stopDeadline, signal, run.output)
	}
}

// Close ends the platform and removes its folder.
func (p *Platform) Close() {
	if p.cluster != nil {
		p.cluster.close()
		return
	}
	if _, err := p.Down(syscall.SIGTERM); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if p.Wires != nil {
		p.Wires.close()
	}
	for _, name := range []string{"kube", "envoy"} {
		_ = os.Remove(p.wired(name))
	}
	remove(p.Data)
}

// Running says where the platform is now.
func (p *Platform) Running() datadir.Running {
	if p.cluster != nil {
		return p.cluster.where(context.Background())
	}
	running, _ := p.dir.ReadRunning()
	return running
}

// sweep removes the folders of test platforms that were killed before they could.
func sweep() {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil || time.Since(info.ModTime()) < 10*time.Minute { // one that starts now has no lock yet
			continue
		}
		if of, _, wired := strings.Cut(folder, wiredMark); wired {
			if _, err := os.Stat(of); err != nil {
				_ = os.Remove(folder)
			}
			continue
		}
		dir, err := datadir.At(folder)
		if err != nil {
			continue
		}
		if lock, err := dir.Lock(); err == nil {
			remove(folder)
			lock.Release()
		}
	}
}

func remove(folder string) {
	_ = filepath.WalkDir(folder, func(path string, e os.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			_ = os.Chmod(path, 0o700) // images may hold folders that nobody may write
		}
		return nil
	})
	_ = os.RemoveAll(folder)
}

// Root is the repository's folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Shared is the platform of a test binary: started by the first test that asks.
type Shared struct {
	Wired  bool // start it with wires
	Events bool // and with the eventing part

	once sync.Once
	p    *Platform
	err  error
}

// atOnce is how many tests run beside each other: most of a test is waiting.
const atOnce = "8"

// Main runs the tests of a package and ends the platform after them; it does not return.
func (s *Shared) Main(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", atOnce)
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-interrupts
		fmt.Fprintln(os.Stderr, "interrupted: ending the platform")
		s.close()
		os.Exit(130)
	}()
	code := m.Run()
	s.close()
	os.Exit(code)
}

func (s *Shared) close() {
	s.once.Do(func() {})
	if s.p != nil {
		s.p.Close()
	}
}

// Platform returns the platform. It skips the test, saying why, under -short and when
// there are no programs or no Envoy.
func (s *Shared) Platform(t testing.TB) *Platform {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a whole platform; left out under -short")
	}
	s.once.Do(func() {
		if os.Getenv(ClusterVariable) != "" && !s.Wired {
			s.p, s.err = Existing(context.Background())
		} else {
			var flags []string
			if s.Events {
				flags = []string{WithEventing}
			}
			s.p, s.err = begin(context.Background(), s.Wired, flags)
		}
	})
	switch {
	case errors.Is(s.err, ErrNotBuilt), errors.Is(s.err, envoytest.ErrNotFound):
		t.Skip(s.err)
	case s.err != nil:
		t.Fatal(s.err)
	case s.p == nil:
		t.Fatal("the platform has been ended")
	}
	return s.p
}

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const tailBytes = 64 << 10

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.text.Len() > tailBytes {
		b.text.Next(b.text.Len() - tailBytes/2)
	}
	return b.text.Write(p)
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(b.text.String())
}

var _ io.Writer = (*tail)(nil)
