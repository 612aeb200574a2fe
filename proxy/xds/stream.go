package xds

import (
	"slices"
	"time"
)

// stream is the state machine of one client. It is guarded by Server.mu and does
// no I/O: receive (request.go) takes what the client says, touch what changed,
// next gives the response to send, nil for none.
type stream struct {
	s       *Server
	id      uint64
	node    string
	cluster string
	peer    string
	role    Role
	since   time.Time
	wake    chan struct{} // capacity 1

	channels []*channel // in the order of sending
	seq      uint64     // of the last response; its nonce
	sent     map[string]*response
	dirty    []*item

	names   int  // subscribed and listed names, bounded
	byName  bool // clusters or listeners are asked for by name: a client without wildcards
	settled bool // what the client uses is known; clusters may be withdrawn
	unknown int  // items held there in a version whose needs are unknown
	kept    map[*item]struct{}
}

// channel is one type on one stream.
type channel struct {
	kind     *kind
	heard    bool // the client has asked for this type
	wild     bool
	owes     bool // the first answer to a wildcard subscription is due, if only an empty one
	items    map[*item]struct{}
	ready    map[*item]struct{}
	paused   map[*item]struct{} // ready, but what they lead to is being loaded: see loading
	blocked  int
	inFlight int
}

// item is one resource on one stream.
type item struct {
	entry   *entry
	channel *channel
	sub     bool // subscribed by name
	forced  bool // is to be sent even if the client has it
	queued  bool
	blocked bool // waits for something it needs
	usable  bool // in its current version
	renew   renewal
	also    []uint32 // generations that the client may have beside the one in acked

	wanted   *Resource        // whose needs are held because the client is to have it
	acked    held             // what the client has
	flight   []held           // what it may have soon, oldest first
	rejected *rejection       // the last one
	users    map[*item]uint32 // items with a version, wanted, acked or in flight, that needs this
	group    int              // at most so many in a response, to find the bad one; 0: any
}

// held is a version at the client.
type held struct {
	here    bool // false: the client has none (as an acknowledged or sent state: removed)
	version string
	res     *Resource // nil if only the version is known
	seq     uint64    // of the response; 0 if it came from an earlier stream

	generation uint32 // under which name it is there, see takeback.go
	unknown    bool   // the needs are unknown and might be anything
}

type rejection struct {
	version string
	message string
	at      time.Time
}

// response is one that waits for its answer.
type response struct {
	channel *channel
	seq     uint64
	items   []*item
	at      time.Time
}

func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// touch has the item looked at before the next response is made.
func (st *stream) touch(it *item) {
	if !it.queued {
		it.queued = true
		st.dirty = append(st.dirty, it)
	}
}

// item is the stream's item for e, made if it is not there.
func (st *stream) item(e *entry) *item {
	it := e.items[st]
	if it == nil {
		it = &item{entry: e, channel: st.channel(e.kind)}
		it.channel.items[it] = struct{}{}
		e.items[st] = it
	}
	return it
}

// lookup is the item for a key, nil if the stream has nothing to do with it.
func (st *stream) lookup(k Key) *item {
	if kd := st.s.kinds[k.Type]; kd != nil {
		if e := kd.entries[k.Name]; e != nil {
			return e.items[st]
		}
	}
	return nil
}

func (st *stream) channel(k *kind) *channel {
	for _, c := range st.channels {
		if c.kind == k {
			return c
		}
	}
	c := &channel{kind: k, items: map[*item]struct{}{}, ready: map[*item]struct{}{}, paused: map[*item]struct{}{}}
	k.users++
	st.channels = append(st.channels, c)
	slices.SortFunc(st.channels, func(a, b *channel) int {
		if a.kind.order != b.kind.order {
			return a.kind.order - b.kind.order
		}
		if a.kind.url < b.kind.url {
			return -1
		}
		return 1
	})
	return c
}

// hold and release count what a version needs.
func (st *stream) hold(it *item, r *Resource) {
	if r == nil {
		return
	}
	for _, k := range r.Needs {
		n := st.item(st.s.entry(k))
		if n.users == nil {
			n.users = map[*item]uint32{}
		}
		if n.users[it]++; len(n.users) == 1 {
			st.touch(n)
		}
	}
}

func (st *stream) release(it *item, r *Resource) {
	if r == nil {
		return
	}
	for _, k := range r.Needs {
		n := st.lookup(k)
		if n == nil || n.users[it] == 0 {
			continue
		}
		if n.users[it]--; n.users[it] == 0 {
			if delete(n.users, it); len(n.users) == 0 {
				st.touch(n)
			}
		}
	}
}

// settle looks at everything that was touched.
func (st *stream) settle() {
	for len(st.dirty) > 0 {
		it := st.dirty[len(st.dirty)-1]
		st.dirty = st.dirty[:len(st.dirty)-1]
		it.queued = false
		st.look(it)
	}
	if cap(st.dirty) > 1024 {
		st.dirty = nil
	}
}

func (st *stream) look(it *item) {
	e := it.entry
	want := e.res
	if !it.active() {
		want = nil
	}
	if old := it.wanted; old != want {
		it.wanted = want
		st.hold(it, want)
		st.release(it, old)
	}
	// The same content with other needs: nothing to send, other things held.
	if want != nil && it.acked.here && it.acked.version == want.Version && it.acked.res != want {
		st.hold(it, want)
		st.release(it, it.acked.res)
		it.acked.res = want
		st.known(it)
	}
	st.reconsider(it)

	v, _ := st.decide(it)
	if v == rest && it.renew == ifLoaded {
		it.renew = 0
	}
	if v == send || v == withdraw {
		it.channel.ready[it] = struct{}{}
	} else {
		delete(it.channel.ready, it)
	}
	if (v == withdraw || v == send && it.last().here) && st.loading(it) {
		it.channel.paused[it] = struct{}{}
	} else {
		delete(it.channel.paused, it)
	}
	if v == keep {
		st.kept[it] = struct{}{}
	} else {
		delete(st.kept, it)
	}
	if b := v == wait; b != it.blocked {
		it.blocked = b
		if b {
			it.channel.blocked++
		} else {
			it.channel.blocked--
		}
		st.notify(it)
	}
	if !it.active() && len(it.users) == 0 && !it.acked.here && len(it.flight) == 0 {
		st.drop(it)
	}
}

// drop forgets an item that nothing refers to.
func (st *stream) drop(it *item) {
	delete(it.channel.items, it)
	delete(it.channel.ready, it)
	delete(it.channel.paused, it)
	delete(st.kept, it)
	delete(it.entry.items, st)
	st.s.recheck(it.entry)
	st.s.collect(it.entry)
}

// known: the version there is one whose needs are counted.
func (st *stream) known(it *item) {
	if it.acked.unknown {
		it.acked.unknown = false
		st.unknown--
		st.unkeep()
	}
}

// unkeep looks again at what was kept, when it may now be withdrawn.
func (st *stream) unkeep() {
	if st.unknown == 0 && st.settled {
		for it := range st.kept {
			st.touch(it)
		}
	}
}

// settleUse is called when it is known what the client uses.
func (st *stream) settleUse() {
	if !st.settled {
		st.settled = true
		st.unkeep()
	}
}

// forget drops what the client had of an item that it no longer wants.
func (st *stream) forget(it *item) {
	for _, h := range it.flight {
		st.release(it, h.res)
	}
	it.flight = nil
	st.release(it, it.acked.res)
	st.known(it)
	it.acked = held{}
	it.rejected = nil
	st.affected(it)
}

// affected follows a change of what the client has.
func (st *stream) affected(it *item) {
	st.touch(it)
	st.reconsider(it)
	for user := range it.users {
		if user.channel.kind.evidence == it.channel.kind.url {
			st.reconsider(user)
		}
	}
	st.ledTo(it)
	st.s.recheck(it.entry)
	st.notify(it)
}

// notify has the owner's state told again.
func (st *stream) notify(it *item) {
	if st.role == Gateway && it.entry.res != nil {
		st.s.notices.state(it.entry.res.Owner)
	}
}
