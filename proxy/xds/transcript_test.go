package xds

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// The transcripts say "cds" for the type URL of clusters and so on; "x" is a type
// that the server does not know.
func url(short string) string {
	switch short {
	case "cds":
		return ClusterType
	case "eds":
		return EndpointType
	case "sds":
		return SecretType
	case "lds":
		return ListenerType
	case "srds":
		return ScopeType
	case "rds":
		return RouteType
	}
	return "type.googleapis.com/test." + short
}

func short(u string) string {
	for _, s := range []string{"cds", "eds", "sds", "lds", "srds", "rds"} {
		if url(s) == u {
			return s
		}
	}
	return shortType(u)
}

// parseKey reads "rds/name".
func parseKey(s string) Key {
	t, n, _ := strings.Cut(s, "/")
	return Key{url(t), n}
}

// fake makes a resource with a given version.
func fake(k Key, version string) *Resource {
	return &Resource{Key: k, Version: version, Body: &anypb.Any{TypeUrl: k.Type, Value: []byte(version)}}
}

type transcript struct {
	s       *Server
	streams map[string]*stream
	out     strings.Builder
}

func (tr *transcript) reset(missing bool, inFlight int) {
	o := Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxInFlight: inFlight}
	if missing {
		o.Missing = func(t, n string) *Resource {
			if t == EndpointType || t == RouteType {
				return fake(Key{t, n}, "missing")
			}
			return nil
		}
	}
	tr.s = New(o)
	tr.streams = map[string]*stream{}
}

// flush writes what all streams send now.
func (tr *transcript) flush() {
	for _, name := range slices.Sorted(maps.Keys(tr.streams)) {
		st := tr.streams[name]
		for resp := tr.s.next(st); resp != nil; resp = tr.s.next(st) {
			fmt.Fprintf(&tr.out, "%s <- %s #%s", name, short(resp.TypeUrl), resp.Nonce)
			for _, r := range resp.Resources {
				fmt.Fprintf(&tr.out, " %s=%s", r.Name, r.Version)
			}
			for _, r := range resp.RemovedResources {
				fmt.Fprintf(&tr.out, " -%s", r)
			}
			tr.out.WriteByte('\n')
		}
	}
}

// TestTranscripts runs testdata/*.txt. Commands:
//
//	new [missing] [inflight=N]              a new server
//	update                                  lines: set type/name=version [lazy] [owner=O] [needs=type/name,…] | remove type/name
//	connect NAME [role=…]                   a stream
//	say NAME TYPE [sub=a,b] [unsub=a] [have=a:1,b:2] [ack=nonce] [nack=nonce] [msg=text_with_underscores]
//	grace NAME | disconnect NAME
//	takeback KEY
//	state OWNER | acked KEY… | streams
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		tr := &transcript{}
		tr.reset(true, 0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			tr.out.Reset()
			if err := tr.run(d); err != nil {
				fmt.Fprintf(&tr.out, "error: %v\n", err)
			}
			tr.flush()
			checkInvariants(t, tr.s)
			if tr.out.Len() == 0 {
				return "-\n"
			}
			return tr.out.String()
		})
	})
}

func (tr *transcript) run(d *datadriven.TestData) error {
	arg := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "new":
		n := 0
		for _, a := range d.CmdArgs {
			if a.Key == "inflight" {
				if _, err := fmt.Sscan(a.Vals[0], &n); err != nil {
					return err
				}
			}
		}
		tr.reset(d.HasArg("missing"), n)
	case "update":
		set, remove, err := parseUpdate(d.Input)
		if err != nil {
			return err
		}
		tr.s.Update(set, remove)
	case "connect":
		c := "ebb-gateway"
		for _, a := range d.CmdArgs[1:] {
			if a.Key == "role" {
				c = a.Vals[0]
			}
		}
		st, err := tr.s.connect(&core.Node{Id: arg(0), Cluster: c}, DefaultRole(&core.Node{Cluster: c}), "")
		if err != nil {
			return err
		}
		tr.streams[arg(0)] = st
	case "say":
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: url(arg(1))}
		msg := "bad"
		for _, a := range d.CmdArgs[2:] {
			switch a.Key {
			case "sub":
				req.ResourceNamesSubscribe = a.Vals
			case "unsub":
				req.ResourceNamesUnsubscribe = a.Vals
			case "have":
				req.InitialResourceVersions = map[string]string{}
				for _, v := range a.Vals {
					n, ver, _ := strings.Cut(v, ":")
					req.InitialResourceVersions[n] = ver
				}
			case "ack":
				req.ResponseNonce = a.Vals[0]
			case "nack":
				req.ResponseNonce = a.Vals[0]
				req.ErrorDetail = &rpcstatus.Status{Code: 13}
			case "msg":
				msg = strings.ReplaceAll(a.Vals[0], "_", " ")
			}
		}
		if req.ErrorDetail != nil {
			req.ErrorDetail.Message = msg
		}
		return tr.s.receive(tr.streams[arg(0)], req)
	case "grace":
		tr.s.grace(tr.streams[arg(0)])
	case "disconnect":
		tr.s.disconnect(tr.streams[arg(0)])
		delete(tr.streams, arg(0))
	case "state":
		o := tr.s.State(arg(0))
		fmt.Fprintf(&tr.out, "gateways=%d pending=%d\n", o.Gateways, o.Pending)
		for _, r := range o.Rejected {
			fmt.Fprintln(&tr.out, r)
		}
	case "takeback":
		fmt.Fprintln(&tr.out, "streams:", tr.s.TakeBack(parseKey(arg(0))))
	case "acked":
		var keys []Key
		for _, a := range d.CmdArgs {
			keys = append(keys, parseKey(a.Key))
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		fmt.Fprintln(&tr.out, "acked:", tr.s.AwaitAcked(ctx, keys...))
		fmt.Fprintln(&tr.out, "unused:", tr.s.AwaitUnused(ctx, keys...))
	case "streams":
		for _, si := range tr.s.Streams() {
			fmt.Fprintf(&tr.out, "%s %s\n", si.Node, si.Role)
			for _, ti := range si.Types {
				fmt.Fprintf(&tr.out, "  %s wildcard=%v subscribed=%d acked=%d stale=%d pending=%d inflight=%d\n", short(ti.Type), ti.Wildcard, ti.Subscribed, ti.Acked, ti.Stale, ti.Pending, ti.InFlight)
			}
		}
	default:
		return fmt.Errorf("unknown command %q", d.Cmd)
	}
	return nil
}

func parseUpdate(in string) (set []*Resource, remove []Key, err error) {
	for _, line := range strings.Split(in, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		key, version, _ := strings.Cut(f[1], "=")
		switch f[0] {
		case "set":
			r := fake(parseKey(key), version)
			for _, a := range f[2:] {
				switch name, v, _ := strings.Cut(a, "="); name {
				case "lazy":
					r.Lazy = true
				case "owner":
					r.Owner = v
				case "needs":
					for _, n := range strings.Split(v, ",") {
						r.Needs = append(r.Needs, parseKey(n))
					}
				default:
					return nil, nil, fmt.Errorf("unknown attribute %q", a)
				}
			}
			set = append(set, r)
		case "remove":
			remove = append(remove, parseKey(key))
		default:
			return nil, nil, fmt.Errorf("unknown line %q", line)
		}
	}
	return set, remove, nil
}

// checkInvariants holds the state machines to their own books, and to rule 6:
// what a stream has acknowledged has its needs there.
func checkInvariants(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *Server) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		unknown := 0
		for _, c := range st.channels {
			blocked := 0
			for it := range c.items {
				if it.acked.unknown {
					unknown++
				}
				if it.blocked {
					blocked++
				}
				if it.entry.items[st] != it {
					t.Fatalf("%s: %v is not in the index", st.node, it.entry.key)
				}
				if s.kinds[it.entry.key.Type].entries[it.entry.key.Name] != it.entry {
					t.Fatalf("%s: %v: the entry was collected", st.node, it.entry.key)
				}
				want := map[*item]uint32{}
				for _, h := range append([]held{{res: it.wanted}, it.acked}, it.flight...) {
					if h.res == nil {
						continue
					}
					for _, k := range h.res.Needs {
						want[st.lookup(k)]++
					}
				}
				for n, count := range want {
					if n == nil || n.users[it] != count {
						t.Fatalf("%s: %v is not counted as a user of what it needs", st.node, it.entry.key)
					}
				}
				if it.renew == ifLoaded && !it.queued {
					if _, ready := c.ready[it]; !ready {
						t.Fatalf("%s: %v is to be renewed, and nobody will do it", st.node, it.entry.key)
					}
				}
				for u := range it.users {
					if st.lookup(u.entry.key) != u {
						t.Fatalf("%s: %v has a user that is gone: %v", st.node, it.entry.key, u.entry.key)
					}
				}
				if it.acked.here && it.acked.res != nil {
					for _, k := range it.acked.res.Needs {
						if n := st.lookup(k); st.gates(k.Type) && it.acked.seq > 0 && !n.last().here {
							t.Fatalf("%s: %v is there without %v", st.node, it.entry.key, k)
						}
					}
				}
			}
			if blocked != c.blocked {
				t.Fatalf("%s: %s: %d blocked, counted %d", st.node, short(c.kind.url), blocked, c.blocked)
			}
		}
		if unknown != st.unknown {
			t.Fatalf("%s: %d unknown, counted %d", st.node, unknown, st.unknown)
		}
	}
}
