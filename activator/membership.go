package activator

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/link"
)

// membership keeps the stream by which the control plane knows this activator: it says who
// it is, what it has of the pods that are shared out, and that it leaves; and it gives
// up pods when it is told to.
type membership struct {
	hello   *link.Hello
	client  link.MembershipClient
	table   *table
	logger  *slog.Logger
	joined  func() // called when the control plane has answered
	wake    chan struct{}
	leaveAt chan struct{} // closed when it leaves
	leaving sync.Once
	left    chan *link.Left // capacity 1

	mu      sync.Mutex
	up      bool
	shares  map[podKey]*link.Share // to be sent
	waiting map[string]bool        // to be sent, by cluster
}

type podKey struct{ cluster, pod string }

// newProcess is a word that no two processes of an activator share.
func newProcess() string { return rand.Text()[:12] }

func newMembership(hello *link.Hello, conn grpc.ClientConnInterface, t *table, logger *slog.Logger, joined func()) *membership {
	return &membership{
		hello: hello, client: link.NewMembershipClient(conn), table: t, logger: logger, joined: joined,
		wake: make(chan struct{}, 1), leaveAt: make(chan struct{}), left: make(chan *link.Left, 1),
		shares: map[podKey]*link.Share{}, waiting: map[string]bool{},
	}
}

// share says what is left on a pod that was given up. It does not block.
func (m *membership) share(s *link.Share) {
	m.mu.Lock()
	m.shares[podKey{s.GetCluster(), s.GetPod()}] = s
	m.mu.Unlock()
	m.poke()
}

// waits says whether requests of a revision are held that cannot be passed on. It does not block.
func (m *membership) waits(cluster string, on bool) {
	m.mu.Lock()
	m.waiting[cluster] = on
	m.mu.Unlock()
	m.poke()
}

func (m *membership) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// leave says that this activator leaves, and returns whether others take what it hands back: when no
// gateway sends to it any more and there are some, or when ctx ends first, because the control plane has taken
// its pods by then. Without a control plane nobody takes anything.
func (m *membership) leave(ctx context.Context) (handBack bool) {
	m.leaving.Do(func() { close(m.leaveAt) })
	m.mu.Lock()
	up := m.up
	m.mu.Unlock()
	if !up {
		return false
	}
	select {
	case l := <-m.left:
		return l.GetOthers() > 0
	case <-ctx.Done():
		return true
	}
}

// run keeps a stream until ctx ends.
func (m *membership) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.stream(ctx)
		m.mu.Lock()
		m.up = false
		m.mu.Unlock()
		if ctx.Err() == nil {
			m.logger.Warn("membership: stream lost, going on with the pods that it has", "error", err)
			pause(ctx)
		}
	}
}

// sharesAtOnce bounds the pods named in one message.
const sharesAtOnce = 1000

func (m *membership) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := m.client.Join(ctx)
	if err != nil {
		return err
	}
	// What changes from now on is sent after what there is.
	m.mu.Lock()
	clear(m.shares)
	clear(m.waiting)
	m.mu.Unlock()
	shares, waiting := m.table.shares()
	hello := proto.CloneOf(m.hello)
	hello.Turn = m.table.env.turn.Load()
	for first := true; first || len(shares) > 0; first = false {
		n := min(len(shares), sharesAtOnce)
		message := &link.FromActivator{Shares: shares[:n]}
		if first {
			message.Hello, message.Waiting = hello, waiting
		}
		shares = shares[n:]
		message.Told = len(shares) == 0
		if err := s.Send(message); err != nil {
			_, err = s.Recv() // it has the reason
			return err
		}
	}
	answer, err := s.Recv()
	if err != nil {
		return err
	}
	m.take(answer)
	m.mu.Lock()
	m.up = true
	m.mu.Unlock()
	m.joined()
	m.logger.Info("membership: joined", "name", m.hello.GetName(), "address", m.hello.GetAddress())

	broken := make(chan error, 1)
	go func() {
		for {
			answer, err := s.Recv()
			if err != nil {
				broken <- err
				return
			}
			m.take(answer)
		}
	}()
	leaving := m.leaveAt
	for {
		if message := m.pending(); message != nil {
			if err := s.Send(message); err != nil {
				return <-broken
			}
		}
		select {
		case err := <-broken:
			return err
		case <-m.wake:
		case <-leaving:
			leaving = nil
			if err := s.Send(&link.FromActivator{Leaving: true}); err != nil {
				return <-broken
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *membership) take(answer *link.ToActivator) {
	for _, r := range answer.GetReleases() {
		m.share(m.table.giveUp(r))
	}
	if l := answer.GetLeft(); l != nil {
		select {
		case m.left <- l:
		default:
		}
	}
}

// pending is what is to be said, nil if nothing is.
func (m *membership) pending() *link.FromActivator {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.shares) == 0 && len(m.waiting) == 0 {
		return nil
	}
	message := &link.FromActivator{}
	for _, s := range m.shares {
		message.Shares = append(message.Shares, s)
	}
	for cluster, on := range m.waiting {
		message.Waiting = append(message.Waiting, &link.Waiting{Cluster: cluster, On: on})
	}
	clear(m.shares)
	clear(m.waiting)
	return message
}

// fences are pods that this activator was told to give up of revisions that it does not know: a
// description that is older must not give them back.
type fences struct {
	mu  sync.Mutex
	all map[string]*fence // by cluster
}

type fence struct {
	pods map[string]uint64 // turn by pod
	at   time.Time
}

const (
	fencesKept = time.Minute // longer than any description is on its way
	maxFences  = 10_000
)

func (f *fences) put(cluster, pod string, turn uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.all[cluster]
	if x == nil {
		if len(f.all) >= maxFences {
			return // nobody asks for so many at once; the pods are nobody's that knows them
		}
		x = &fence{pods: map[string]uint64{}}
		f.all[cluster] = x
	}
	x.pods[pod], x.at = max(x.pods[pod], turn), time.Now()
}

func (f *fences) take(cluster string) map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.all[cluster]
	if x == nil {
		return nil
	}
	delete(f.all, cluster)
	return x.pods
}

func (f *fences) sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for cluster, x := range f.all {
		if now.Sub(x.at) > fencesKept {
			delete(f.all, cluster)
		}
	}
}
