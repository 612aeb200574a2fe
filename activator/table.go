package activator

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/link"
)

// table is the revisions that requests came for. Looking one up takes no lock.
type table struct {
	env        *environment
	maxHeld    int
	maxEntries int
	maxUnknown int
	idleAfter  time.Duration
	watch      func(name string, on bool) // the control plane is to describe it; does not block

	entries sync.Map // name -> *revision
	fences  fences

	mu      sync.Mutex
	count   int
	unknown map[string]struct{} // not described, or not existing
}

const maxNameLength = 512 // bytes of a cluster's name

// lookup returns the revision, which is new and watched if this is its first
// request, or a refusal.
func (t *table) lookup(name string) (*revision, *refusal) {
	if r, ok := t.entries.Load(name); ok {
		return r.(*revision), nil
	}
	if len(name) > maxNameLength {
		return nil, &refusal{http.StatusBadRequest, reasonMalformed, fmt.Sprintf("header %s is longer than %d bytes", ir.RevisionHeader, maxNameLength), 0}
	}
	if _, _, _, err := ir.ParseRevisionCluster(name); err != nil {
		return nil, &refusal{http.StatusBadRequest, reasonMalformed, fmt.Sprintf("header %s: %v; requests come here through the gateway only", ir.RevisionHeader, err), 0}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.entries.Load(name); ok {
		return r.(*revision), nil
	}
	if t.count >= t.maxEntries || len(t.unknown) >= t.maxUnknown {
		return nil, &refusal{http.StatusServiceUnavailable, reasonTooMany, "too many revisions at once: try again later", 1}
	}
	r := newRevision(name, t.env, t.maxHeld)
	r.fences = t.fences.take(name)
	t.entries.Store(name, r)
	t.count++
	t.unknown[name] = struct{}{}
	t.watch(name, true)
	return r, nil
}

// apply hands a description to its revision; one that nobody asked for is ignored.
func (t *table) apply(name string, spec *link.Revision) error {
	r, ok := t.entries.Load(name)
	if !ok {
		return nil
	}
	t.env.tracer.use(spec.GetTraceCollector()) // before those who wait go on
	if err := r.(*revision).apply(spec); err != nil {
		return err
	}
	t.mu.Lock()
	delete(t.unknown, name)
	t.mu.Unlock()
	return nil
}

// remove says that the control plane knows no such revision.
func (t *table) remove(name string) {
	r, ok := t.entries.Load(name)
	if !ok {
		return
	}
	r.(*revision).remove()
	t.mu.Lock()
	t.unknown[name] = struct{}{}
	t.mu.Unlock()
}

// giveUp gives a pod up, and returns what is still there.
func (t *table) giveUp(x *link.Release) *link.Share {
	t.env.heard(x.GetTurn())
	t.mu.Lock()
	r, ok := t.entries.Load(x.GetCluster())
	if !ok { // and nobody can make it in this moment
		t.fences.put(x.GetCluster(), x.GetPod(), x.GetTurn())
	}
	t.mu.Unlock()
	if !ok {
		return &link.Share{Cluster: x.GetCluster(), Pod: x.GetPod(), Turn: x.GetTurn()}
	}
	return r.(*revision).giveUp(x.GetPod(), x.GetTurn())
}

// shares is what there is on pods that are shared out, and the revisions whose requests are stuck here.
func (t *table) shares() (all []*link.Share, stuck []*link.Waiting) {
	t.entries.Range(func(name, value any) bool {
		shares, is := value.(*revision).shares()
		all = append(all, shares...)
		if is {
			stuck = append(stuck, &link.Waiting{Cluster: name.(string), On: true})
		}
		return true
	})
	return all, stuck
}

// handBack refuses everyone who waits, now and from now on, with the connection's end: gateways
// take such requests to another activator.
func (t *table) handBack() (n int) {
	t.env.handingBack.Store(true)
	t.entries.Range(func(_, value any) bool {
		n += value.(*revision).handBack()
		return true
	})
	return n
}

func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// sweep forgets revisions that nobody needs, until ctx ends.
func (t *table) sweep(ctx context.Context) {
	every := max(10*time.Millisecond, min(t.idleAfter/4, 5*time.Second))
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.evict()
		}
	}
}

// evict forgets what is idle, and sooner what does not exist.
func (t *table) evict() {
	t.fences.sweep(time.Now())
	t.entries.Range(func(_, value any) bool {
		r := value.(*revision)
		idle := t.idleAfter
		t.mu.Lock()
		if _, unknown := t.unknown[r.name]; unknown {
			idle = min(idle, 30*time.Second)
		}
		t.mu.Unlock()
		if r.evict(idle) {
			t.mu.Lock()
			t.entries.Delete(r.name)
			t.count--
			delete(t.unknown, r.name)
			t.watch(r.name, false)
			t.mu.Unlock()
		}
		return true
	})
}
