package publish_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/activator"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/publish"
	"ebb.dev/ebb/proxy/xds"
	"ebb.dev/ebb/test/counter"
)

// activatorProcess, in the environment, makes the test binary an activator: "NAME CONTROL".
const activatorProcess = "EBB_TEST_ACTIVATOR"

func TestMain(m *testing.M) {
	if o, ok := os.LookupEnv(activatorProcess); ok {
		name, control, _ := strings.Cut(o, " ")
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		go func() { // nothing is left over when the test is
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(3)
		}()
		err := activator.Run(ctx, activator.Options{
			Name: name, Listen: "127.0.0.1:0", ControlAddress: control, ShutdownGrace: time.Minute,
			Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shared is a world whose activators are processes, with one Revision that limits what a pod serves at once.
// Callers send to any activator, as the gateways' holds do in the worst case, and to another one when the connection breaks.
type shared struct {
	*world
	registry *members.Registry
	control  string
	revision *v1.Revision
	limit    int

	mu         sync.Mutex
	activators map[string]*process
	pods       map[string]*app
	born       int
	killed     atomic.Int64 // pods
	answered   atomic.Int64
}

type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan error
}

type app struct {
	counter counter.Counter
	server  *httptest.Server
	object  *corev1.Pod
}

func newShared(t *testing.T, config *rest.Config, limit int) *shared {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &shared{control: l.Addr().String(), limit: limit, activators: map[string]*process{}, pods: map[string]*app{}}
	s.registry = members.New(members.Options{Logger: slog.New(slog.DiscardHandler)})
	s.world = newWorld(t, config, 0, func(o *publish.Options) { o.Activators = s.registry })
	// As many activators share the Revision as there are pods.
	s.must(s.settings.Update("config-autoscaler", map[string]string{"activator-capacity": "1"}))
	server := grpc.NewServer(xds.GRPCOptions()...)
	s.publisher.Server().Register(server)
	intake.New(intake.Options{}).Register(server)
	link.RegisterMembershipServer(server, s.registry)
	go server.Serve(l)
	t.Cleanup(server.Stop)

	s.revision = &v1.Revision{}
	s.revision.Namespace, s.revision.Name = s.namespace, "limited"
	s.revision.Spec.Containers = []corev1.Container{{Name: "user-container", Image: "example.com/app"}}
	concurrency := int64(limit)
	s.revision.Spec.ContainerConcurrency = &concurrency
	s.must(s.Create(t.Context(), s.revision))
	t.Cleanup(func() {
		for _, name := range s.names() {
			s.end(name, syscall.SIGKILL)
		}
	})
	return s
}

func (s *shared) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for name := range s.activators {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (s *shared) podNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for name := range s.pods {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// activator starts one and waits until it is known.
func (s *shared) activator(name string) {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), activatorProcess+"="+name+" "+s.control)
	stdin, err := cmd.StdinPipe()
	s.must(err)
	stderr, err := cmd.StderrPipe()
	s.must(err)
	s.must(cmd.Start())
	p := &process{cmd: cmd, stdin: stdin, done: make(chan error, 1)}
	joined := make(chan struct{})
	go func() {
		said := sync.OnceFunc(func() { close(joined) })
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "membership: joined") {
				said()
			}
		}
		p.done <- cmd.Wait()
	}()
	select {
	case <-joined:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		s.t.Fatalf("activator %s did not join", name)
	}
	s.mu.Lock()
	s.activators[name] = p
	s.mu.Unlock()
}

// end kills an activator, or asks it to leave and waits until it has.
func (s *shared) end(name string, how syscall.Signal) {
	s.mu.Lock()
	p := s.activators[name]
	delete(s.activators, name)
	s.mu.Unlock()
	_ = p.cmd.Process.Signal(how)
	select {
	case err := <-p.done:
		if how == syscall.SIGTERM && err != nil {
			s.t.Errorf("activator %s, which was asked to leave, ended with %v", name, err)
		}
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		s.t.Errorf("activator %s did not end", name)
	}
	_ = p.stdin.Close()
}

// podUp starts an app and makes it a Ready pod of the Revision.
func (s *shared) podUp() {
	s.t.Helper()
	s.mu.Lock()
	s.born++
	name := fmt.Sprint("pod-", s.born)
	s.mu.Unlock()
	a := &app{}
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer a.counter.Begin(r)()
		select { // the app's work
		case <-time.After(time.Duration(1+rand.IntN(4)) * time.Duration(1+s.limit/15) * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
	a.server.Config.ConnContext = counter.ConnContext
	a.server.Start()
	s.t.Cleanup(a.server.Close)
	_, port, _ := net.SplitHostPort(a.server.Listener.Addr().String())
	a.object = s.podOf(s.revision, name, "127.0.0.1", true, map[string]string{serving.PortAnnotation: port})
	s.mu.Lock()
	s.pods[name] = a
	s.mu.Unlock()
}

// podDown ends a pod as a kubelet does: it is told, finishes what it has, and is gone. Killed, it breaks its connections.
func (s *shared) podDown(name string, kill bool) {
	s.t.Helper()
	s.mu.Lock()
	a := s.pods[name]
	delete(s.pods, name)
	s.mu.Unlock()
	if kill {
		s.killed.Add(1)
		a.server.CloseClientConnections()
		a.server.Listener.Close()
		s.must(s.Delete(s.t.Context(), a.object, client.GracePeriodSeconds(0)))
	} else {
		s.must(s.Delete(s.t.Context(), a.object))
		s.must(s.publisher.AwaitDrained(s.t.Context(), s.namespace, s.revision.Name))
		s.until("pod "+name+" is idle", func() bool { now, _, _ := a.counter.Counts(); return now == 0 })
		s.must(s.Delete(s.t.Context(), a.object, client.GracePeriodSeconds(0)))
	}
	s.check(name, a)
}

func (s *shared) check(name string, a *app) {
	if _, most, total := a.counter.Counts(); most > s.limit {
		s.t.Errorf("%s had %d requests at once, of %d, and the limit is %d", name, most, total, s.limit)
	}
}

func (s *shared) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited 90 s for: %s; activators %v, pods %v, %d answered", what, s.names(), s.podNames(), s.answered.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *shared) addresses() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for _, m := range s.registry.List() {
		if s.activators[m.Name] != nil {
			all[m.Name] = m.Address.String()
		}
	}
	return all
}

// call sends one request to an activator, any if it has no name, and to others while the connection breaks.
func (s *shared) call(ctx context.Context, c *http.Client, name string) error {
	for try := 0; ; try++ {
		all := s.addresses()
		for len(all) == 0 { // the only one starts again
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
			all = s.addresses()
		}
		var address string
		if address = all[name]; address == "" {
			for _, address = range all { // in no order
				break
			}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		req.Header.Set(ir.RevisionHeader, cluster(s.revision))
		res, err := c.Do(req)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && try < 200:
			continue
		case err != nil:
			return err
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusBadGateway && s.killed.Load() > 0 {
			continue // it was with a pod that was killed, again and again
		}
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s %s", address, res.Status, text)
		}
		return nil
	}
}

// testLimitsAreExact: pods and activators come, go and are killed while more is asked for than they may
// serve. No pod ever has more than its limit, and every request is answered.
func testLimitsAreExact(t *testing.T, config *rest.Config) {
	steps := rapid.SliceOfN(rapid.SampledFrom([]string{
		"pod up", "pod up", "pod down", "pod killed", "activator up", "activator up", "activator killed", "activator leaves", "activator again",
	}), 12, 12)
	for _, limit := range []int{1, 10, 100} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			s := newShared(t, config, limit)
			s.activator("act-0")
			s.podUp()
			callers := s.callers(t, 40+2*limit)
			acts := 0
			for i, step := range steps.Example(limit) {
				some := func(all []string) string { return all[(i*7+3)%len(all)] }
				pods, activators := s.podNames(), s.names()
				switch {
				case step == "pod up" && len(pods) < 4:
					s.podUp()
				case step == "pod down" && len(pods) > 1:
					s.podDown(some(pods), false)
				case step == "pod killed" && len(pods) > 1:
					s.podDown(some(pods), true)
				case step == "activator up" && len(activators) < 3:
					acts++
					s.activator(fmt.Sprint("act-", acts))
				case step == "activator killed" && len(activators) > 1:
					s.end(some(activators), syscall.SIGKILL)
				case step == "activator leaves" && len(activators) > 1:
					s.end(some(activators), syscall.SIGTERM)
				case step == "activator again":
					name := some(activators)
					s.end(name, syscall.SIGKILL)
					s.activator(name)
				default:
					continue
				}
				before := s.answered.Load()
				s.until(fmt.Sprintf("requests are answered after step %d, %s", i, step), func() bool { return s.answered.Load() > before+300 })
			}
			callers()
			// One pod, three activators: who holds requests without a pod gets it in turn.
			for len(s.names()) < 3 {
				acts++
				s.activator(fmt.Sprint("act-", acts))
			}
			for pods := s.podNames(); len(pods) > 1; pods = pods[1:] {
				s.podDown(pods[0], false)
			}
			var all sync.WaitGroup
			for _, name := range s.names() {
				for range 20 {
					all.Go(func() {
						if err := s.call(t.Context(), http.DefaultClient, name); err != nil {
							t.Errorf("by way of %s, with one pod: %v", name, err)
						}
					})
				}
			}
			all.Wait()
			for _, name := range s.podNames() {
				s.check(name, s.pods[name])
				_, most, total := s.pods[name].counter.Counts()
				t.Logf("%s: at most %d of %d requests at once", name, most, total)
			}
		})
	}
}

// callers call all the time until the function that is returned is called.
func (s *shared) callers(t *testing.T, n int) (stop func()) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	var ended atomic.Bool
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for !ended.Load() && !t.Failed() {
				if err := s.call(t.Context(), c, ""); err != nil {
					t.Error(err)
					return
				}
				s.answered.Add(1)
			}
		})
	}
	return func() {
		ended.Store(true)
		all.Wait()
		c.CloseIdleConnections()
	}
}
