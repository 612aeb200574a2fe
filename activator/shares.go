package activator

import (
	"ebb.dev/ebb/proxy/link"
)

// heard notes the highest turn of any pod.
func (e *environment) heard(turn uint64) {
	for before := e.turn.Load(); turn > before && !e.turn.CompareAndSwap(before, turn); before = e.turn.Load() {
	}
}

// belongs tells whether the pod is this activator's to send to, as it was described and
// as it was told since.
func (p *pod) belongs(self string) bool {
	return p.owner == "" || p.owner == self && p.turn >= p.fence
}

// giveUp gives a pod up and returns what is still there. What was described before
// does not give it back; from now on every end of a request there is told.
func (r *revision) giveUp(name string, turn uint64) *link.Share {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[name]
	if p == nil {
		if r.fences == nil {
			r.fences = map[string]uint64{}
		}
		r.fences[name] = max(r.fences[name], turn)
		share := &link.Share{Cluster: r.name, Pod: name, Turn: turn}
		for p := range r.leaving { // described no longer, or with another address
			if p.name == name {
				share.InFlight += uint32(p.inFlight)
			}
		}
		return share
	}
	p.fence = max(p.fence, turn)
	if p.mine = p.belongs(r.env.self); !p.mine {
		p.owes = p.inFlight > 0
		r.settle(p)
		r.tell()
	}
	return r.shareOf(p)
}

func (r *revision) shareOf(p *pod) *link.Share {
	return &link.Share{Cluster: r.name, Pod: p.name, Turn: max(p.turn, p.fence), Mine: p.mine && p.owner != "", InFlight: uint32(p.inFlight)}
}

// owed tells the control plane that there is less on a pod that was given up.
func (r *revision) owed(p *pod) {
	if p.mine || p.inFlight == 0 {
		p.owes = false
	}
	if !p.mine {
		r.env.member.share(r.shareOf(p))
	}
}

// stuck: requests wait that this activator has no pod of its own for, or that it is not
// meant to have; somebody has to give it one.
func (r *revision) stuck() bool {
	if r.queue.limit == 0 || r.queue.waiting == 0 || len(r.pods) == 0 {
		return false
	}
	if !r.assigned {
		return true
	}
	for _, p := range r.pods {
		if p.mine && !p.draining {
			return false
		}
	}
	return true
}

// tell says to the control plane whether requests are stuck here, when that has changed. It costs the pods of
// a revision while requests of it wait and it has a limit.
func (r *revision) tell() {
	if r.queue.limit == 0 && !r.toldStuck {
		return
	}
	if now := r.stuck(); now != r.toldStuck {
		r.toldStuck = now
		r.env.member.waits(r.name, now)
	}
}

// shares is what the revision has of pods that are shared out, and whether requests are stuck.
func (r *revision) shares() (all []*link.Share, stuck bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		if p.owner != "" && (p.mine || p.inFlight > 0) {
			p.owes = p.owes || !p.mine
			all = append(all, r.shareOf(p))
		}
	}
	r.toldStuck = r.stuck()
	return all, r.toldStuck
}

// handBack ends the wait of everyone who waits, for another activator to take them.
func (r *revision) handBack() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = r.queue.fail(errHandedBack)
	r.tell()
	return n
}
