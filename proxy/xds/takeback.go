package xds

import (
	"math"
	"slices"
	"strconv"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// TakeBack has a resource that gateways loaded on demand, a route configuration, forgotten
// wherever it is loaded: there the scopes that lead to it are replaced, in one response, by
// equal ones of the next generation, which are not loaded. The gateway lets go of the
// configuration, and with that of the clusters only it needed, and asks again when the next
// request comes. It returns on how many streams it was asked for; streams
// that do not have it, that are just loading it, or that have an unanswered change of it or
// of its scopes, are left alone, so call again later. It costs the streams that
// have it, never blocks on I/O, and nothing happens on a stream that has let go of it before
// its response is made.
func (s *Server) TakeBack(k Key) int {
	s.mu.Lock()
	n := 0
	if kd := s.kinds[k.Type]; kd != nil && kd.entries[k.Name] != nil {
		for st, it := range kd.entries[k.Name].items {
			if st.takeBack(it) {
				st.poke()
				n++
			}
		}
	}
	s.mu.Unlock()
	s.notices.run()
	return n
}

func (st *stream) takeBack(it *item) bool {
	any := false
	for user := range it.users {
		if user.channel.kind.rearm && user.renew == 0 && st.renewable(user) {
			user.renew = ifLoaded
			st.touch(user)
			any = true
		}
	}
	return any
}

// renewal is whether an item is to be replaced by the next generation of itself.
type renewal uint8

const (
	// ifLoaded: if all it leads to is still loaded when the response is made.
	ifLoaded renewal = 1
	// regardless: a response that did so was rejected for another reason, and the client may
	// have applied it. Doing it again is right in both cases.
	regardless renewal = 2
)

// renewable: the client has loaded all that its version of the item leads to. That
// has to be certain, because a request that waits in Envoy for a scope's
// routes waits for ever when that scope goes. It is certain when the client has acknowledged them in
// a response that was sent after the scope's own: the client subscribes when it starts to load
// and unsubscribes when the scope goes, and requests arrive in order.
func (st *stream) renewable(it *item) bool {
	cur := it.entry.res
	if !it.channel.wild || it.sub || cur == nil || !it.acked.here || it.acked.version != cur.Version || len(it.flight) > 0 || it.acked.generation == math.MaxUint32 {
		return false
	}
	if it.renew == regardless {
		return true
	}
	loaded := false
	for _, k := range cur.Needs {
		if k.Type == it.channel.kind.evidence || rules(k.Type).wildcard {
			continue
		}
		n := st.lookup(k)
		if n == nil || !n.sub || n.forced || !n.acked.here || len(n.flight) > 0 || n.acked.seq < it.acked.seq {
			return false
		}
		loaded = true
	}
	return loaded
}

// A generation is one making of a resource on one stream: generation 0 goes by the
// resource's name, generation n by the name, "~" and n. All have the same version,
// because the version is of the content and the content differs by the name alone.

func generationName(name string, generation uint32) string {
	if generation == 0 {
		return name
	}
	return name + "~" + strconv.FormatUint(uint64(generation), 10)
}

// splitGeneration is the reverse of generationName.
func splitGeneration(name string) (string, uint32) {
	i := strings.LastIndexByte(name, '~')
	if i <= 0 || i == len(name)-1 || name[i+1] < '1' || name[i+1] > '9' {
		return name, 0
	}
	n, err := strconv.ParseUint(name[i+1:], 10, 32)
	if err != nil {
		return name, 0
	}
	return name[:i], uint32(n)
}

// wireOf is r as it is sent in a generation. The message's own name is its first
// field, for the types that have generations; of a field that occurs twice the last one
// counts (protobuf's encoding specification, "Last One Wins").
func wireOf(r *Resource, generation uint32) *discovery.Resource {
	if generation == 0 {
		return r.wire
	}
	name := generationName(r.Name, generation)
	value := make([]byte, 0, len(r.Body.GetValue())+len(name)+4)
	value = append(value, r.Body.GetValue()...)
	value = protowire.AppendTag(value, nameField, protowire.BytesType)
	value = protowire.AppendString(value, name)
	return &discovery.Resource{Name: name, Version: r.Version, Resource: &anypb.Any{TypeUrl: r.Body.GetTypeUrl(), Value: value}}
}

const nameField = 1

// generation is the one to send an item in now.
func (it *item) generation() uint32 {
	last := it.last()
	if !last.here {
		return 0
	}
	if it.renew != 0 {
		return last.generation + 1
	}
	return last.generation
}

// others are the names under which the client has or may get the item, but for the one
// in the given generation; all of them if none is given.
func (it *item) others(generation *uint32) []string {
	var names []string
	add := func(g uint32) {
		name := generationName(it.entry.key.Name, g)
		if generation != nil && g == *generation || slices.Contains(names, name) {
			return
		}
		names = append(names, name)
	}
	if it.acked.here {
		add(it.acked.generation)
	}
	for _, h := range it.flight {
		if h.here {
			add(h.generation)
		}
	}
	for _, g := range it.also {
		add(g)
	}
	slices.Sort(names)
	return names
}

// newest gives, of the names that a client lists, the newest generation of each
// resource that it has one of.
func newest(names map[string]string) map[string]uint32 {
	var m map[string]uint32
	for name := range names {
		if base, g := splitGeneration(name); g > 0 {
			if m == nil {
				m = map[string]uint32{}
			}
			m[base] = max(m[base], g)
		}
	}
	return m
}
