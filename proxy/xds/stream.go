package xds

import (
	"slices"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
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
	unknown bool      // the needs are unknown and might be anything
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

// verdict is what is to be done about an item.
type verdict int

const (
	rest verdict = iota
	send
	withdraw
	wait // for something it needs
	keep // is to be withdrawn once it is known what the client uses
)

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

// active: the client is to have this resource if it exists.
func (it *item) active() bool {
	if it.sub {
		return true
	}
	cur := it.entry.res
	return it.channel.wild && (len(it.users) > 0 || cur != nil && !cur.Lazy)
}

// last is what the client will have when all in flight has arrived.
func (it *item) last() held {
	if n := len(it.flight); n > 0 {
		return it.flight[n-1]
	}
	return it.acked
}

func (it *item) refused(version string) bool {
	return it.rejected != nil && it.rejected.version == version
}

// isUsable: what needs the item's current version may be sent.
func (st *stream) isUsable(it *item) bool {
	cur := it.entry.res
	if cur == nil || it.refused(cur.Version) {
		return false
	}
	h, acked := it.acked, true
	if n := len(it.flight); n > 0 {
		h, acked = it.flight[n-1], false
	}
	if !h.here || h.version != cur.Version {
		return false
	}
	shown := false
	for _, k := range cur.Needs {
		if k.Type != it.channel.kind.evidence {
			continue
		}
		n := st.lookup(k)
		if n == nil || !n.acked.here || n.acked.seq < h.seq {
			return false
		}
		shown = true
	}
	return shown || acked
}

// reconsider keeps usable true to the state and tells those who wait for it.
func (st *stream) reconsider(it *item) {
	if u := st.isUsable(it); u != it.usable {
		it.usable = u
		for user := range it.users {
			st.touch(user)
		}
	}
}

// gates: whoever needs a resource of this type waits for it.
func (st *stream) gates(typeURL string) bool {
	return rules(typeURL).wildcard && !st.byName
}

// obstacle is the first thing that r still has to wait for. It is hopeless when
// waiting alone will not help: something does not exist or was rejected. Then by
// is the item that was rejected, if that is the reason.
func (st *stream) obstacle(r *Resource) (waits, hopeless bool, by *item) {
	for _, k := range r.Needs {
		if !st.gates(k.Type) {
			continue
		}
		n := st.lookup(k)
		if n != nil && n.usable {
			continue
		}
		waits = true
		if n == nil || n.entry.res == nil {
			hopeless = true
			continue
		}
		if n.refused(n.entry.res.Version) {
			return true, true, n
		}
		for _, ek := range n.entry.res.Needs {
			e := st.lookup(ek)
			if e == nil || e.entry.res == nil {
				continue
			}
			if e.refused(e.entry.res.Version) {
				return true, true, e
			}
		}
		// What it needs may itself be stuck.
		if n.blocked {
			if _, h, b := st.obstacle(n.entry.res); h {
				return true, true, b
			}
		}
	}
	return waits, hopeless, nil
}

// decide says what is to be done about an item now, and with which resource.
func (st *stream) decide(it *item) (verdict, *Resource) {
	cur, last, kd := it.entry.res, it.last(), it.channel.kind
	if !it.active() {
		if !it.channel.wild || !last.here {
			return rest, nil
		}
		if kd.leaf && (st.unknown > 0 || !st.settled) {
			return keep, nil
		}
		return withdraw, nil
	}
	if cur == nil {
		switch {
		case it.sub && kd.sticky:
			if !last.here || it.forced {
				return st.standIn(it)
			}
		case it.sub && (last.here || it.forced) && len(it.users) == 0:
			return withdraw, nil
		}
		return rest, nil
	}
	if last.here && last.version == cur.Version && !it.forced {
		return rest, nil
	}
	if it.refused(cur.Version) {
		if last.here && !it.forced {
			return rest, nil
		}
		return st.standIn(it)
	}
	if waits, hopeless, _ := st.obstacle(cur); waits {
		if hopeless && it.sub && (!last.here || it.forced) {
			if v, r := st.standIn(it); v == send {
				return v, r
			}
		}
		return wait, nil
	}
	return send, cur
}

// standIn is what a client gets that asked by name for what it cannot have: the
// last good version if there is one, else Options.Missing.
func (st *stream) standIn(it *item) (verdict, *Resource) {
	r := it.acked.res
	if !it.acked.here || r == nil {
		if r = st.missing(it); r == nil {
			return rest, nil
		}
	}
	if it.refused(r.Version) {
		return rest, nil
	}
	if last := it.last(); last.here && last.version == r.Version && !it.forced {
		return rest, nil
	}
	return send, r
}

// missing is Options.Missing for an item that was asked for by name.
func (st *stream) missing(it *item) *Resource {
	if st.s.opts.Missing == nil || !it.sub {
		return nil
	}
	r := st.s.opts.Missing(it.entry.key.Type, it.entry.key.Name)
	if r == nil {
		return nil
	}
	return r.sealed()
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

// loading: the client has asked for something that its version of the item led it
// to, and does not have it yet. Measured: when a scope is replaced or removed
// while a request waits for the scope's routes, that request waits for ever. So
// such a change waits, and with it all of its type on this stream, because what
// takes the item's place (the same key under another name) is in the same push.
// Whoever refers to a resource that is asked for by name needs it, for this to work.
func (st *stream) loading(it *item) bool {
	if st.leadsToLoading(it, it.acked.res) {
		return true
	}
	for _, h := range it.flight {
		if st.leadsToLoading(it, h.res) {
			return true
		}
	}
	return false
}

func (st *stream) leadsToLoading(it *item, r *Resource) bool {
	if r == nil {
		return false
	}
	for _, k := range r.Needs {
		if k.Type == it.channel.kind.evidence || rules(k.Type).wildcard {
			continue
		}
		if n := st.lookup(k); n != nil && n.sub && !n.acked.here && n.rejected == nil && (n.entry.res != nil || st.s.opts.Missing != nil) {
			return true
		}
	}
	return false
}

// ledTo has those looked at that may wait for it to be loaded.
func (st *stream) ledTo(it *item) {
	if it.channel.kind.wildcard {
		return
	}
	for user := range it.users {
		if user.channel.kind.evidence != it.channel.kind.url {
			st.touch(user)
		}
	}
}

// notify has the owner's state told again.
func (st *stream) notify(it *item) {
	if st.role == Gateway && it.entry.res != nil {
		st.s.notices.state(it.entry.res.Owner)
	}
}

// next is the next response to send, nil if there is none.
func (st *stream) next() *discovery.DeltaDiscoveryResponse {
	st.settle()
	for _, c := range st.channels {
		if c.inFlight >= st.s.opts.MaxInFlight || len(c.paused) > 0 {
			continue
		}
		if len(c.ready) > 0 {
			if r := st.build(c); r != nil {
				return r
			}
		}
		if c.owes && c.blocked == 0 && len(c.ready) == 0 {
			return st.finish(c, &discovery.DeltaDiscoveryResponse{}, nil)
		}
	}
	return nil
}

// build makes a response of what is ready in a channel.
func (st *stream) build(c *channel) *discovery.DeltaDiscoveryResponse {
	items := make([]*item, 0, len(c.ready))
	limit := st.s.opts.MaxResponseBytes
	whole := c.owes
	for it := range c.ready {
		items = append(items, it)
		whole = whole || !it.active() || it.entry.res == nil
	}
	if whole {
		limit *= 32
	}
	slices.SortFunc(items, func(a, b *item) int {
		if a.entry.key.Name < b.entry.key.Name {
			return -1
		}
		return 1
	})
	resp := &discovery.DeltaDiscoveryResponse{}
	var in []*item
	size, group := 0, 0
	for _, it := range items {
		v, r := st.decide(it)
		if v != send && v != withdraw {
			delete(c.ready, it)
			continue
		}
		n := len(it.entry.key.Name) + 4
		if v == send {
			n = r.size
		}
		if len(in) > 0 && size+n > limit {
			break
		}
		if it.group > 0 && (group == 0 || it.group < group) {
			if len(in) >= it.group {
				break
			}
			group = it.group
		}
		size += n
		in = append(in, it)
		delete(c.ready, it)
		it.forced = false
		if v == withdraw {
			resp.RemovedResources = append(resp.RemovedResources, it.entry.key.Name)
			it.flight = append(it.flight, held{seq: st.seq + 1})
		} else {
			resp.Resources = append(resp.Resources, r.wire)
			it.flight = append(it.flight, held{here: true, version: r.Version, res: r, seq: st.seq + 1})
			st.hold(it, r)
			for _, k := range r.Needs {
				if n := st.lookup(k); n != nil && k.Type == c.kind.evidence && n.sub {
					n.forced = true
					st.touch(n)
				}
			}
		}
		st.reconsider(it)
		if group > 0 && len(in) >= group {
			break
		}
	}
	if len(in) == 0 {
		return nil
	}
	st.s.metrics.sent(c.kind.url, len(in), size)
	return st.finish(c, resp, in)
}

func (st *stream) finish(c *channel, resp *discovery.DeltaDiscoveryResponse, items []*item) *discovery.DeltaDiscoveryResponse {
	st.seq++
	resp.TypeUrl, resp.Nonce = c.kind.url, nonce(st.seq)
	st.sent[resp.Nonce] = &response{channel: c, seq: st.seq, items: items, at: time.Now()}
	c.inFlight++
	c.owes = false
	st.s.responses++
	st.s.metrics.response(c.kind.url)
	return resp
}
