package xds

// verdict is what is to be done about an item.
type verdict int

const (
	rest verdict = iota
	send
	withdraw
	wait // for something it needs
	keep // is to be withdrawn once it is known what the client uses
)

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
	if it.renew != 0 && st.renewable(it) {
		return send, cur
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
