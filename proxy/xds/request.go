package xds

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	maxTypes      = 64   // on one stream
	maxName       = 2048 // bytes
	maxRejectText = 1024 // bytes kept of a rejection; Envoy may dump a whole cluster
)

func nonce(seq uint64) string { return strconv.FormatUint(seq, 10) }

// receive takes one request of the client. An error ends the stream; it is a
// gRPC status that says which bound was exceeded.
func (st *stream) receive(req *discovery.DeltaDiscoveryRequest) error {
	url := req.GetTypeUrl()
	if url == "" || len(url) > maxName || !utf8.ValidString(url) {
		return status.Error(codes.InvalidArgument, "xds: the request has no usable type URL")
	}
	if !st.s.opts.MayAsk(st.role, url) {
		return status.Errorf(codes.PermissionDenied, "xds: a client of the role %s may not ask for %s", st.role, shortType(url))
	}
	var c *channel
	if kd := st.s.kinds[url]; kd != nil {
		for _, ch := range st.channels {
			if ch.kind == kd {
				c = ch
			}
		}
	}
	if c == nil {
		if len(st.channels) >= maxTypes {
			return status.Errorf(codes.ResourceExhausted, "xds: more than %d types on one stream; close it and subscribe to fewer", maxTypes)
		}
		c = st.channel(st.s.kind(url))
	}
	st.answer(c, req)
	return st.subscribe(c, req)
}

// answer takes the acknowledgement or rejection in a request; unknown nonces,
// as those of an earlier stream, are ignored.
func (st *stream) answer(c *channel, req *discovery.DeltaDiscoveryRequest) {
	r := st.sent[req.GetResponseNonce()]
	if r == nil || r.channel != c {
		return
	}
	delete(st.sent, req.GetResponseNonce())
	c.inFlight--
	st.s.metrics.answered(c.kind.url, time.Since(r.at), req.GetErrorDetail() != nil)
	if req.GetErrorDetail() == nil {
		for _, it := range r.items {
			st.ack(it, r.seq)
		}
		return
	}
	text := req.GetErrorDetail().GetMessage()
	guilty := named(text, r.items, r.seq)
	text = truncate(text)
	if len(guilty) == 0 && len(r.items) == 1 {
		guilty = map[*item]bool{r.items[0]: true}
	}
	for _, it := range r.items {
		switch {
		case guilty[it]:
			st.reject(it, r.seq, text)
		case len(guilty) > 0 && c.kind.partial:
			st.ack(it, r.seq)
		default:
			if len(guilty) == 0 {
				// Halves, until one is alone with its message.
				it.group = max(1, len(r.items)/2)
			}
			if h, ok := st.retract(it, r.seq); ok && h.here && it.acked.here && h.generation != it.acked.generation {
				it.renew, it.also = regardless, append(it.also, h.generation)
			}
			it.forced = it.forced || it.sub && it.entry.res == nil && !it.last().here
			st.affected(it)
		}
	}
	st.s.opts.Logger.Warn("xds: rejected", "node", st.node, "type", shortType(c.kind.url),
		"resources", len(r.items), "rejected", len(guilty), "message", text)
}

// ack: the client has what response seq held of it.
func (st *stream) ack(it *item, seq uint64) {
	i := it.inFlight(seq)
	if i < 0 {
		return // unsubscribed since, or a later one was acknowledged before
	}
	for _, h := range it.flight[:i] {
		st.release(it, h.res)
	}
	st.release(it, it.acked.res)
	st.known(it)
	it.acked = it.flight[i]
	if !it.acked.here {
		it.acked = held{}
	}
	it.flight = it.flight[i+1:]
	if len(it.flight) == 0 {
		it.flight = nil
	}
	it.group = 0
	it.also = nil
	st.affected(it)
}

// reject: the client did not take what response seq held; it still has what it
// had, and will not be sent this version again.
func (st *stream) reject(it *item, seq uint64, text string) {
	h, ok := st.retract(it, seq)
	if !ok {
		return
	}
	if !h.here {
		// A removal cannot be refused for good: the client does not have it.
		st.release(it, it.acked.res)
		st.known(it)
		it.acked = held{}
	} else {
		it.rejected = &rejection{version: h.version, message: text, at: time.Now()}
		it.group = 0
		st.s.metrics.rejected(it.channel.kind.url)
	}
	st.affected(it)
	for user := range it.users {
		st.touch(user)
		st.notify(user)
		if user.channel.kind.evidence == it.channel.kind.url {
			for u := range user.users {
				st.touch(u)
				st.notify(u)
			}
		}
	}
}

// retract takes back what response seq was to bring.
func (st *stream) retract(it *item, seq uint64) (held, bool) {
	i := it.inFlight(seq)
	if i < 0 {
		return held{}, false
	}
	h := it.flight[i]
	it.flight = append(it.flight[:i:i], it.flight[i+1:]...)
	st.release(it, h.res)
	return h, true
}

func (it *item) inFlight(seq uint64) int {
	for i, h := range it.flight {
		if h.seq == seq {
			return i
		}
	}
	return -1
}

// subscribe takes what a request says about interest.
func (st *stream) subscribe(c *channel, req *discovery.DeltaDiscoveryRequest) error {
	first := !c.heard
	c.heard = true
	held := map[string]string(nil)
	wild := false
	if first {
		held = req.GetInitialResourceVersions()
		wild = c.kind.wildcard && len(req.GetResourceNamesSubscribe()) == 0
		if c.kind.wildcard && !wild {
			st.byName = st.byName || !slices.Contains(req.GetResourceNamesSubscribe(), "*")
		}
		switch c.kind.url {
		case ClusterType:
			if len(held) == 0 {
				st.settleUse()
			}
		case EndpointType:
			if ch := st.heardOf(ClusterType); ch == nil {
				// Envoy holds its cluster subscription back while a cluster warms:
				// the last stream ended between a cluster and its endpoints, which
				// have to be sent whether it has them or not.
				held = nil
			}
		}
	}
	st.names += len(req.GetResourceNamesSubscribe()) + len(held)
	if st.names > st.s.opts.MaxNames {
		return status.Errorf(codes.ResourceExhausted, "xds: more than %d names on one stream; subscribe to fewer", st.s.opts.MaxNames)
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if name == "*" && c.kind.wildcard {
			st.wildcard(c, false)
			continue
		}
		it := st.lookup(Key{c.kind.url, name})
		if it == nil || !it.sub {
			continue
		}
		st.names--
		it.sub = false
		it.forced = false
		it.entry.subs--
		if it.entry.subs == 0 {
			st.s.notices.subscription(it.entry.key, false)
		}
		if !c.wild {
			st.forget(it)
		}
		st.touch(it)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if len(name) > maxName || !utf8.ValidString(name) {
			return status.Errorf(codes.InvalidArgument, "xds: a name of type %s is longer than %d bytes or not UTF-8", c.kind.url, maxName)
		}
		if name == "*" && c.kind.wildcard {
			wild = true
			continue
		}
		it := st.item(st.s.entry(Key{c.kind.url, name}))
		if it.sub {
			st.names-- // counted before
		} else {
			it.sub = true
			it.entry.subs++
			if it.entry.subs == 1 {
				st.s.notices.subscription(it.entry.key, true)
			}
		}
		it.forced = true
		st.touch(it)
		st.ledTo(it)
	}
	var generations map[string]uint32
	if c.kind.rearm {
		generations = newest(held)
	}
	for name, version := range held {
		if len(name) > maxName || !utf8.ValidString(name) || version == "" {
			continue
		}
		key, generation := Key{c.kind.url, name}, uint32(0)
		if c.kind.rearm {
			key.Name, generation = splitGeneration(name)
		}
		it := st.lookup(key)
		if it == nil {
			if !wild {
				continue
			}
			it = st.item(st.s.entry(key))
		}
		if generation < generations[key.Name] {
			it.also, it.forced = append(it.also, generation), true
			continue
		}
		st.holds(it, version, generation)
	}
	if wild {
		st.wildcard(c, true)
		c.owes = c.owes || first && len(held) == 0
	}
	if first && (c.kind.url == RouteType || c.kind.url == ListenerType) &&
		st.heardOf(RouteType) != nil && st.heardOf(ListenerType) != nil {
		st.settleUse()
	}
	return nil
}

// holds notes that the client has a version from an earlier stream.
func (st *stream) holds(it *item, version string, generation uint32) {
	if it.acked.here || len(it.flight) > 0 {
		return
	}
	it.forced = len(it.also) > 0
	it.acked = held{here: true, version: version, generation: generation}
	if cur := it.entry.res; cur != nil && cur.Version == version {
		it.acked.res = cur
		st.hold(it, cur)
	} else if r := st.missing(it); r != nil && r.Version == version {
		it.acked.res = r
		st.hold(it, r)
	} else if !it.channel.kind.leaf {
		it.acked.unknown = true
		st.unknown++
	}
	st.affected(it)
}

func (st *stream) wildcard(c *channel, on bool) {
	if c.wild == on {
		return
	}
	c.wild = on
	if on {
		c.kind.wild[st] = struct{}{}
		for _, e := range c.kind.entries {
			if e.res != nil && !e.res.Lazy {
				st.item(e)
			}
		}
	} else {
		delete(c.kind.wild, st)
	}
	for it := range c.items {
		if !on && !it.sub {
			st.forget(it)
		}
		st.touch(it)
	}
}

// heardOf is the channel of a type that the client has asked for.
func (st *stream) heardOf(url string) *channel {
	for _, c := range st.channels {
		if c.kind.url == url && c.heard {
			return c
		}
	}
	return nil
}

// named is which of the items of response seq the message of a rejection names. A name
// counts only as a whole: "c1" is not named by "c10: …".
func named(text string, items []*item, seq uint64) map[*item]bool {
	var m map[*item]bool
	for _, it := range items {
		name := it.entry.key.Name
		if i := it.inFlight(seq); i >= 0 {
			name = generationName(name, it.flight[i].generation)
		}
		if mentions(text, name) {
			if m == nil {
				m = map[*item]bool{}
			}
			m[it] = true
		}
	}
	return m
}

func mentions(text, name string) bool {
	for from := 0; name != ""; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		i += from
		j := i + len(name)
		if (i == 0 || !nameByte(text[i-1])) && (j == len(text) || !nameByte(text[j]) || text[j] == '.' && (j+1 == len(text) || text[j+1] == ' ')) {
			return true
		}
		from = i + 1
	}
	return false
}

func nameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_./#|~", b) >= 0
}

func truncate(text string) string {
	if len(text) <= maxRejectText {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ToValidUTF8(text[:maxRejectText], "") + "…"
}
