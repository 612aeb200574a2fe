package xds

import (
	"slices"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

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
		whole = whole || !it.active() || it.entry.res == nil || it.renew != 0
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
			if it.renew == ifLoaded {
				it.renew = 0
			}
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
		switch {
		case v == withdraw && !c.kind.rearm:
			resp.RemovedResources = append(resp.RemovedResources, it.entry.key.Name)
			it.flight = append(it.flight, held{seq: st.seq + 1})
		case v == withdraw:
			resp.RemovedResources = append(resp.RemovedResources, it.others(nil)...)
			it.renew = 0
			it.flight = append(it.flight, held{seq: st.seq + 1})
		default:
			if it.renew != 0 && !st.renewable(it) {
				it.renew = 0
			}
			g := it.generation()
			it.renew = 0
			resp.Resources = append(resp.Resources, wireOf(r, g))
			if c.kind.rearm {
				resp.RemovedResources = append(resp.RemovedResources, it.others(&g)...)
			}
			it.flight = append(it.flight, held{here: true, version: r.Version, res: r, seq: st.seq + 1, generation: g})
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
