package members_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
)

// store keeps the list in memory.
type store struct {
	mu   sync.Mutex
	list members.List
	fail error
}

func (s *store) Load(context.Context) (members.List, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list, s.fail
}

func (s *store) Save(_ context.Context, l members.List) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		s.list = l
	}
	return s.fail
}

func (s *store) names() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, k := range s.list.Activators {
		all = append(all, k.Name)
	}
	return strings.Join(all, " ")
}

// follower keeps what it hears as lines, and the members as they are.
type follower struct {
	mu      sync.Mutex
	members []members.Member
	lines   []string
}

func (f *follower) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, fmt.Sprintf(format, args...))
}

func (f *follower) Members(all []members.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = slices.Clone(all)
}

func (f *follower) Turn(uint64) {}

func (f *follower) Shares(id string, shares []*link.Share, found bool) {
	for _, s := range shares {
		f.note("%s %s %d found=%v", id, s.GetPod(), s.GetInFlight(), found)
	}
}

func (f *follower) Waits(id string, w []*link.Waiting, _ bool) {
	for _, x := range w {
		f.note("%s waits %v", id, x.GetOn())
	}
}

func (f *follower) Gone(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.members, func(m members.Member) bool { return m.ID == id }) {
		f.lines = append(f.lines, id+" gone, and in the list")
		return
	}
	f.lines = append(f.lines, id+" gone")
}

// is shows the members: name, and marks for those that leave, are lost or are not known to be there.
func (f *follower) is() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, m := range f.members {
		text := fmt.Sprintf("%s/%d", m.Name, m.Slot)
		for mark, on := range map[string]bool{"?": m.ID == "", "!": m.Lost && m.ID != "", "-": m.Leaving} {
			if on {
				text += mark
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func (f *follower) heard(line string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.lines, line)
}

type world struct {
	t        *testing.T
	registry *members.Registry
	follower *follower
	conn     *grpc.ClientConn
}

// never is longer than any test.
const never = time.Hour

func start(t *testing.T, o members.Options) *world {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	w := &world{t: t, registry: members.New(o), follower: &follower{}}
	w.registry.Follow(w.follower)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	link.RegisterMembershipServer(server, w.registry)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	if w.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close() })
	if err := w.registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// activator is one that has joined.
type activator struct {
	link.Membership_JoinClient
	die context.CancelFunc
}

func (w *world) join(name, process string, shares ...*link.Share) (*activator, error) {
	ctx, cancel := context.WithCancel(w.t.Context())
	s, err := link.NewMembershipClient(w.conn).Join(ctx)
	if err == nil {
		err = s.Send(&link.FromActivator{Hello: &link.Hello{Name: name, Process: process, Address: "10.0.0.1:8012"}, Shares: shares, Told: true})
	}
	if err == nil || errors.Is(err, io.EOF) {
		// Where the stream has ended already Send says only that; Recv has the reason.
		var m *link.ToActivator
		if m, err = s.Recv(); err == nil && !m.GetJoined() {
			err = errors.New("not joined")
		}
	}
	return &activator{s, cancel}, err
}

func (w *world) mustJoin(name, process string, shares ...*link.Share) *activator {
	w.t.Helper()
	a, err := w.join(name, process, shares...)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited 20 s for: %s; members are %s, heard was %q", what, w.follower.is(), w.follower.lines)
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) becomes(members string) {
	w.t.Helper()
	w.eventually(members, func() bool { return w.follower.is() == members })
}

// Activators come, are lost, come back, are given up, leave; the last one stays.
func TestComeAndGo(t *testing.T) {
	kept := &store{}
	w := start(t, members.Options{Store: kept, Return: 50 * time.Millisecond, Silence: time.Millisecond})
	a := w.mustJoin("a", "1")
	w.becomes("a/0")
	b := w.mustJoin("b", "1", &link.Share{Pod: "p1", InFlight: 3, Mine: true})
	w.becomes("a/0 b/1")
	if !w.follower.heard("b@1 p1 3 found=true") || kept.names() != "a b" {
		t.Errorf("b was used before all was known of it and kept: %q, kept %q", w.follower.lines, kept.names())
	}
	_ = b.Send(&link.FromActivator{Shares: []*link.Share{{Pod: "p1", InFlight: 2}}, Waiting: []*link.Waiting{{Cluster: "c", On: true}}})
	w.eventually("what b says", func() bool { return w.follower.heard("b@1 p1 2 found=false") && w.follower.heard("b@1 waits true") })

	b.die()
	w.becomes("a/0")
	w.eventually("its end", func() bool { return w.follower.heard("b@1 gone") && kept.names() == "a" })

	c := w.mustJoin("c", "1")
	w.becomes("a/0 c/1") // in the place of b
	_ = a.Send(&link.FromActivator{Leaving: true})
	w.becomes("a/0- c/1")
	w.registry.Left("a@1", 1)
	if m, err := a.Recv(); err != nil || m.GetLeft().GetOthers() != 1 {
		t.Errorf("the one that leaves got %v %v", m, err)
	}
	_ = a.CloseSend()
	w.becomes("c/1")

	c.die()
	w.becomes("c/1!")
	w.mustJoin("d", "1") // and so c is not the last any more
	w.becomes("d/0")
	w.eventually("the end of c", func() bool { return w.follower.heard("c@1 gone") })
}

// One whose stream broke comes back in time; another process of the name is another activator.
func TestComesBack(t *testing.T) {
	w := start(t, members.Options{Return: never, Silence: time.Millisecond})
	w.mustJoin("a", "1")
	b := w.mustJoin("b", "1")
	b.die()
	w.becomes("a/0 b/1!")
	w.mustJoin("b", "1")
	w.becomes("a/0 b/1")
	// Its old stream is not known to be broken when it comes again.
	b = w.mustJoin("b", "1")
	w.becomes("a/0 b/1")
	if slices.Contains(w.follower.lines, "b@1 gone") {
		t.Error("a process that came back is gone")
	}
	w.mustJoin("b", "2")
	w.eventually("the end of the first process", func() bool { return w.follower.heard("b@1 gone") })
	w.becomes("a/0 b/1")
	if _, err := b.Recv(); status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "unique") {
		t.Errorf("the first process hears %v", err)
	}
}

// A control plane that starts again waits for those that were there.
func TestRestart(t *testing.T) {
	known := func() *store {
		return &store{list: members.List{Slots: 3, Activators: []members.Known{
			{Name: "a", Address: netip.MustParseAddrPort("10.0.0.1:8012"), Slot: 2}, {Name: "b", Address: netip.MustParseAddrPort("10.0.0.1:8012"), Slot: 0},
		}}}
	}
	settled := func(w *world) bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return w.registry.Settled(ctx) == nil
	}
	t.Run("all come back", func(t *testing.T) {
		w := start(t, members.Options{Store: known(), Restart: never})
		w.becomes("a/2? b/0?")
		w.mustJoin("a", "1")
		w.becomes("a/2 b/0?")
		if settled(w) {
			t.Error("settled before b is there")
		}
		w.mustJoin("b", "1")
		w.becomes("a/2 b/0")
		w.mustJoin("c", "1")
		w.becomes("a/2 b/0 c/1")
		w.eventually("settled", func() bool { return settled(w) })
	})
	t.Run("one does not", func(t *testing.T) {
		s := known()
		w := start(t, members.Options{Store: s, Restart: 50 * time.Millisecond})
		w.mustJoin("a", "1")
		w.becomes("a/2")
		w.eventually("settled", func() bool { return settled(w) && s.names() == "a" })
	})
	t.Run("none does", func(t *testing.T) {
		w := start(t, members.Options{Store: known(), Restart: time.Millisecond})
		w.eventually("settled", func() bool { return settled(w) })
		w.becomes("a/2? b/0?") // gateways keep what they have
	})
	t.Run("the first start", func(t *testing.T) {
		w := start(t, members.Options{Store: &store{}, Restart: never})
		if settled(w) {
			t.Error("settled with nobody there")
		}
		w.mustJoin("a", "1")
		w.eventually("settled", func() bool { return settled(w) })
	})
}

// Who is not known for sure is not used: what cannot be kept, says nonsense, or is no activator.
func TestRefused(t *testing.T) {
	full := &store{}
	w := start(t, members.Options{Store: full})
	full.mu.Lock()
	full.fail = errors.New("the kube-apiserver is away")
	full.mu.Unlock()
	for range 2 {
		if _, err := w.join("a", "1"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "away") {
			t.Errorf("one that could not be kept got %v", err)
		}
	}
	for name, hello := range map[string]*link.Hello{
		"name":    {Name: "a@b", Process: "1", Address: "10.0.0.1:1"},
		"process": {Name: "a", Address: "10.0.0.1:1"},
		"address": {Name: "a", Process: "1", Address: "0.0.0.0:8012"},
	} {
		s, err := link.NewMembershipClient(w.conn).Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(&link.FromActivator{Hello: hello, Told: true})
		if _, err := s.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("a bad %s got %v", name, err)
		}
	}
	guarded := start(t, members.Options{Identify: func(context.Context) error { return errors.New("a gateway's certificate") }})
	if _, err := guarded.join("a", "1"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("one that is no activator got %v", err)
	}
}

// A process that is gone is in no list any more, so that nobody gives it a pod after that.
func TestGoneAfterTheList(t *testing.T) {
	w := start(t, members.Options{Return: time.Nanosecond, Silence: time.Nanosecond})
	w.mustJoin("a", "1")
	for i := range 100 {
		process := fmt.Sprint(i)
		b := w.mustJoin("b", process)
		b.die()
		w.eventually("its end", func() bool { return w.follower.heard("b@" + process + " gone") })
	}
}
