package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ebb.dev/ebb/proxy/link"
)

// Member is one activator.
type Member struct {
	Name    string
	ID      string // Name@process; "" while it is only known from before a restart
	Address netip.AddrPort
	Slot    int
	Leaving bool // it finishes what it has
	Lost    bool // its stream is broken
}

// Follower hears of changes. Shares and Waits of one activator come in the order it sent them, Members
// one after the other; none may block for long, and none may call the Registry but for Release and Left.
type Follower interface {
	// Members are those that gateways are to use, and those that leave, sorted by name.
	Members([]Member)
	// Turn is the highest turn that somebody who comes has heard of.
	Turn(uint64)
	// Shares says what an activator has on pods; found is what it lists when it comes, and, with nothing
	// in it, that it has come and can be told to give up what it should not have.
	Shares(id string, shares []*link.Share, found bool)
	// Waits says of which revisions it holds requests that it cannot pass on. anew: of no others.
	Waits(id string, waiting []*link.Waiting, anew bool)
	// Gone: the process has ended, and its connections are closed. It is in no list any more.
	Gone(id string)
}

// Known is what is kept of an activator.
type Known struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	Slot    int            `json:"slot"`
}

// List is what is kept.
type List struct {
	Slots      int     `json:"slots"` // that gateways have; it does not fall
	Activators []Known `json:"activators"`
}

// Store keeps the list where the next leader finds it.
type Store interface {
	Load(context.Context) (List, error)
	Save(context.Context, List) error
}

// Options of a Registry. Zero durations mean the default that their comment names.
type Options struct {
	Store Store // nil keeps nothing
	// Identify refuses a peer that is not an activator; nil takes everybody.
	Identify func(context.Context) error
	// Return is how long an activator whose stream broke has to come back; 2 s.
	Return time.Duration
	// Restart is how long those known from before have, when the Registry starts; 5 s.
	Restart time.Duration
	// Silence is how long after its stream broke an activator that ended may still be
	// at work as its pods see it: until they have noticed that its connections are closed; 1 s.
	Silence time.Duration
	Logger  *slog.Logger // slog.Default
}

// maxMembers bounds the activators known at once.
const maxMembers = 1000

// Registry is the Membership service. Its methods may be called from several goroutines.
type Registry struct {
	link.UnimplementedMembershipServer
	opts    Options
	ready   chan struct{} // the store was read
	settled chan struct{} // all known ones are there, or have had their time
	running context.Context

	saving sync.Mutex // held while the store is written

	sessions sync.Map // id -> *session
	follower Follower

	mu      sync.Mutex
	slots   int
	members map[string]*member
	grace   bool // Restart is running
}

type member struct {
	Member
	session *session
	lost    time.Time // when its stream broke
	overdue bool      // it has had its time to come back
	kept    bool      // it is in the store
	used    bool      // it has come, or is known from before: followers hear of it
}

// New makes a Registry; activators are answered once Start runs and has read the store.
func New(o Options) *Registry {
	o.Return = cmp.Or(o.Return, 2*time.Second)
	o.Restart = cmp.Or(o.Restart, 5*time.Second)
	o.Silence = cmp.Or(o.Silence, time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Registry{
		opts: o, ready: make(chan struct{}), settled: make(chan struct{}),
		members: map[string]*member{},
	}
}

// Follow sets who hears of changes. Call it before Start.
func (r *Registry) Follow(f Follower) { r.follower = f }

// Start reads the store, and from then on takes activators until ctx ends. It does not
// block for longer than the store.
func (r *Registry) Start(ctx context.Context) error {
	var list List
	if r.opts.Store != nil {
		var err error
		if list, err = r.opts.Store.Load(ctx); err != nil {
			return fmt.Errorf("activators known from before: %w", err)
		}
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running, r.grace, r.slots = ctx, true, list.Slots
	for _, k := range list.Activators {
		if len(r.members) == maxMembers || !validName(k.Name) || !k.Address.IsValid() || k.Slot < 0 || k.Slot >= list.Slots {
			r.opts.Logger.Warn("an activator known from before is not understood and is forgotten", "name", k.Name)
			continue
		}
		r.members[k.Name] = &member{Member: Member{Name: k.Name, Address: k.Address, Slot: k.Slot, Lost: true}, lost: now, kept: true, used: true}
	}
	r.announce()
	timer := time.AfterFunc(r.opts.Restart, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.grace = false
		for _, m := range r.members {
			if m.ID == "" && m.session == nil {
				m.overdue = true
			}
		}
		r.expire()
		r.settle()
	})
	context.AfterFunc(ctx, func() { timer.Stop() })
	close(r.ready)
	return nil
}

// Settled blocks until every activator known from before is there or has had its time,
// and one is there, or ctx ends. Until then pods that an activator has may be unknown.
func (r *Registry) Settled(ctx context.Context) error {
	select {
	case <-r.settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Registry) settle() {
	if r.grace && (len(r.members) == 0 || slices.ContainsFunc(r.all(), func(m Member) bool { return m.ID == "" })) {
		return
	}
	select {
	case <-r.settled:
	default:
		close(r.settled)
	}
}

// List is who is there now.
func (r *Registry) List() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all()
}

func (r *Registry) all() []Member {
	all := make([]Member, 0, len(r.members))
	for _, m := range r.members {
		if m.used {
			all = append(all, m.Member)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *Registry) announce() {
	if r.follower != nil {
		r.follower.Members(r.all())
	}
}

// expire forgets those that had their time, but for the last one.
func (r *Registry) expire() {
	here := slices.ContainsFunc(r.all(), func(m Member) bool { return !m.Lost && !m.Leaving })
	changed := false
	for name, m := range r.members {
		if m.session != nil || !m.overdue || !here {
			continue
		}
		delete(r.members, name)
		r.gone(m.ID, m.lost)
		r.opts.Logger.Info("activator: it is gone", "name", name)
		changed = true
	}
	if changed {
		r.announce()
		go r.save(r.running) //nolint:errcheck // what it had is in the next one; see save
	}
}

// gone tells that a process has ended, once that is certain.
func (r *Registry) gone(id string, lost time.Time) {
	if id == "" || r.follower == nil {
		return
	}
	time.AfterFunc(max(0, time.Until(lost.Add(r.opts.Silence))), func() {
		r.mu.Lock() // after the list without it: nobody gives it anything any more
		defer r.mu.Unlock()
		r.follower.Gone(id)
	})
}

// save writes the list as it is. A list that could not be written names activators that are gone, and the
// next leader waits for them in vain for a short while; whoever adds one must not go on.
func (r *Registry) save(ctx context.Context) error {
	if r.opts.Store == nil {
		return nil
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	list := List{Slots: r.slots}
	var written []*member
	for _, m := range r.members {
		list.Activators = append(list.Activators, Known{m.Name, m.Address, m.Slot})
		written = append(written, m)
	}
	r.mu.Unlock()
	slices.SortFunc(list.Activators, func(a, b Known) int { return strings.Compare(a.Name, b.Name) })
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := r.opts.Store.Save(ctx, list)
	if err != nil {
		r.opts.Logger.Warn("the list of activators could not be kept", "error", err)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range written {
		m.kept = slices.Contains(list.Activators, Known{m.Name, m.Address, m.Slot})
	}
	return nil
}

// enlist makes an activator known, and kept, before it is used.
func (r *Registry) enlist(ctx context.Context, name string, address netip.AddrPort) error {
	r.mu.Lock()
	m := r.members[name]
	if m != nil && m.Address == address && (m.kept || r.opts.Store == nil) {
		r.mu.Unlock()
		return nil
	}
	if m == nil {
		if len(r.members) == maxMembers {
			r.mu.Unlock()
			return fmt.Errorf("%d activators are known already", maxMembers)
		}
		m = &member{Member: Member{Name: name, Slot: r.freeSlot(), Lost: true}, lost: time.Now()}
		r.members[name] = m
		// If it does not come after all.
		time.AfterFunc(r.opts.Restart, func() { r.overdue(m) })
	}
	m.Address, m.kept = address, false
	r.mu.Unlock()
	return r.save(ctx)
}

func (r *Registry) freeSlot() int {
	taken := map[int]bool{}
	for _, m := range r.members {
		taken[m.Slot] = true
	}
	slot := 0
	for taken[slot] {
		slot++
	}
	r.slots = max(r.slots, slot+1)
	return slot
}

// enter puts a session in the place of its activator.
func (r *Registry) enter(s *session, name string, address netip.AddrPort) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[name]
	if m == nil || m.Address != address {
		return errors.New("another activator took the name meanwhile")
	}
	if m.session != nil {
		m.session.replaced(fmt.Errorf("another activator named %s came; names must be unique", name))
		m.lost = time.Now()
	}
	if m.ID != s.id {
		r.gone(m.ID, m.lost)
	}
	r.sessions.Delete(m.ID)
	m.session, m.ID, m.Lost, m.Leaving, m.overdue, m.used = s, s.id, false, false, false, true
	r.sessions.Store(s.id, s)
	r.announce()
	r.expire()
	r.settle()
	r.opts.Logger.Info("activator: it is there", "name", name, "address", address, "slot", m.Slot)
	return nil
}

// leaves notes that the activator takes nothing new.
func (r *Registry) leaves(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.session == s && !m.Leaving {
			m.Leaving = true
			r.opts.Logger.Info("activator: it is leaving", "name", m.Name)
			r.announce()
		}
	}
}

// exit notes that a session's stream has ended.
func (r *Registry) exit(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions.CompareAndDelete(s.id, s)
	for _, m := range r.members {
		if m.session != s {
			continue
		}
		m.session, m.lost, m.Lost = nil, time.Now(), true
		r.opts.Logger.Info("activator: its stream has ended", "name", m.Name, "leaving", m.Leaving)
		r.announce()
		if m.overdue = m.Leaving; m.overdue {
			r.expire()
			return
		}
		time.AfterFunc(r.opts.Return, func() { r.overdue(m) })
	}
}

func (r *Registry) overdue(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members[m.Name] != m || m.session != nil || m.ID != "" && time.Since(m.lost) < r.opts.Return {
		return
	}
	m.overdue = true
	r.expire()
}

// Release asks an activator to give pods up. It does not block; when the activator is not
// there nothing happens.
func (r *Registry) Release(id string, releases ...*link.Release) {
	if s := r.session(id); s != nil {
		s.release(releases)
	}
}

// Left tells an activator that leaves that no gateway sends to it any more, and how many others there are.
func (r *Registry) Left(id string, others int) {
	if s := r.session(id); s != nil {
		s.left(others)
	}
}

func validName(name string) bool {
	return name != "" && name != "-" && len(name) <= 253 && !strings.ContainsAny(name, "@/ \n\t")
}
