package autoscaler

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

const (
	victimCost   = -1000 // deletion cost of pods that shall go; others have none
	drainMargin  = 5 * time.Second
	defaultGrace = 30 * time.Second
	// Victims that get idle within this time go in one write.
	gather = 50 * time.Millisecond
)

// plan is what is to be done for a revision now.
type plan struct {
	desired, current int
	live             []Pod // neither terminating nor given up
	rewish           chan struct{}
	timeout, grace   time.Duration
}

// act starts working towards r's wish unless that is going on. r is locked.
func (s *Scaler) act(r *revision) {
	if r.acting || r.gone || !r.todo() {
		return
	}
	ctx := s.running()
	if ctx == nil || ctx.Err() != nil {
		return
	}
	r.acting = true
	go s.work(ctx, r)
}

// todo: the wish differs from what is, or pods are marked that shall not be.
func (r *revision) todo() bool {
	return r.desired != r.current || len(r.marked) > len(r.leaving)
}

func (s *Scaler) work(ctx context.Context, r *revision) {
	backoff := 50 * time.Millisecond
	for {
		r.mu.Lock()
		if r.gone || ctx.Err() != nil || !r.todo() {
			r.acting = false
			r.mu.Unlock()
			return
		}
		p := plan{desired: r.desired, current: r.current, rewish: r.rewish, timeout: r.seen.Timeout, grace: r.seen.Settings.Grace}
		if p.grace <= 0 {
			p.grace = defaultGrace
		}
		for _, pod := range r.seen.Pods {
			if !pod.Terminating && !r.leaving[pod.Name] {
				p.live = append(p.live, pod)
			}
		}
		r.mu.Unlock()

		var err error
		if p.desired >= p.current {
			err = s.up(ctx, r, p)
		} else {
			err = s.down(ctx, r, p)
		}
		if err == nil {
			backoff = 50 * time.Millisecond
			continue
		}
		if ctx.Err() == nil {
			s.opt.Logger.Warn("scale: trying again", "namespace", r.key.namespace, "revision", r.key.name, "to", p.desired, "error", err)
		}
		t := time.NewTimer(backoff)
		backoff = min(backoff*2, 5*time.Second)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-p.rewish:
		}
		t.Stop()
	}
}

// up takes back what drains and asks for the pods.
func (s *Scaler) up(ctx context.Context, r *revision, p plan) error {
	s.mark(r, nil)
	if err := s.scale(ctx, r, p.current, p.desired); err != nil {
		return err
	}
	return s.costs(ctx, r, p.live, nil)
}

// down lets go of the pods that are too many: DRAINING, acknowledged, idle, marked for deletion, and then fewer replicas. As soon
// as some are idle they go; the others when they are. A wish that changes meanwhile ends it, and the caller looks again.
func (s *Scaler) down(ctx context.Context, r *revision, p plan) error {
	chosen := victims(p.live, len(p.live)-p.desired, r.marks(), func(pod Pod) int {
		n, _ := s.opt.Load.InFlight(r.cluster, pod.Addr)
		return n
	})
	if len(chosen) == 0 {
		s.mark(r, nil)
		return s.scale(ctx, r, p.current, p.desired)
	}
	since := s.mark(r, chosen)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.rewish:
			cancel()
		case <-ctx.Done():
		}
	}()
	acked, stop := context.WithTimeout(ctx, p.grace)
	err := s.opt.Drainer.AwaitDrained(acked, r.key.namespace, r.key.name)
	stop()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		s.opt.Logger.Warn("drain: not acknowledged everywhere within the grace period", "namespace", r.key.namespace, "revision", r.key.name, "error", err)
	}

	idle := make(chan Pod, len(chosen))
	for _, pod := range chosen {
		go func() {
			if pod.Addr.IsValid() {
				ctx, stop := context.WithDeadline(ctx, since[pod.Name].Add(p.timeout+drainMargin))
				defer stop()
				if err := s.opt.Load.AwaitIdle(ctx, r.cluster, []netip.AddrPort{pod.Addr}); err != nil && ctx.Err() == context.DeadlineExceeded {
					s.opt.Logger.Warn("drain: still busy after the revision's timeout", "namespace", r.key.namespace, "pod", pod.Name)
				}
			}
			idle <- pod
		}()
	}
	var going []Pod
	var more <-chan time.Time
	for waiting := true; waiting && len(going) < len(chosen); {
		select {
		case <-ctx.Done():
			return nil
		case pod := <-idle:
			going = append(going, pod)
			if more == nil {
				more = time.After(gather)
			}
		case <-more:
			waiting = false
		}
	}
	if err := s.costs(ctx, r, p.live, going); err != nil {
		return err
	}
	if !s.leave(r, p.rewish, going) {
		return nil
	}
	// From here on these pods go, whatever the wish: they stay DRAINING until Kubernetes has deleted them.
	if err := s.scale(context.WithoutCancel(ctx), r, p.current, max(p.desired, len(p.live)-len(going))); err != nil {
		s.stay(r, going)
		return err
	}
	return nil
}

func (r *revision) marks() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]time.Time, len(r.marked))
	for k, v := range r.marked {
		out[k] = v
	}
	return out
}

// mark makes the pods and those that are leaving DRAINING, and no others. It returns since when each is.
func (s *Scaler) mark(r *revision, pods []Pod) map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil // another autoscaler has it, or nobody
	}
	now := time.Now()
	next := make(map[string]time.Time, len(pods)+len(r.leaving))
	for name := range r.leaving {
		next[name] = r.marked[name]
	}
	for _, p := range pods {
		t, ok := r.marked[p.Name]
		if !ok {
			t = now
		}
		next[p.Name] = t
	}
	names := make([]string, 0, len(next))
	for name := range next {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(next) > 0 || len(r.marked) > 0 {
		s.opt.Drainer.Drain(r.key.namespace, r.key.name, names)
	}
	r.marked = next
	out := make(map[string]time.Time, len(next))
	for k, v := range next {
		out[k] = v
	}
	return out
}

// leave notes that the pods are given to Kubernetes, unless the wish changed.
func (s *Scaler) leave(r *revision, rewish chan struct{}, pods []Pod) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rewish != rewish || r.gone {
		return false
	}
	if r.leaving == nil {
		r.leaving = map[string]bool{}
	}
	for _, p := range pods {
		r.leaving[p.Name] = true
	}
	return true
}

func (s *Scaler) stay(r *revision, pods []Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range pods {
		delete(r.leaving, p.Name)
	}
}

// scale writes the replicas, unless they are so already.
func (s *Scaler) scale(ctx context.Context, r *revision, from, to int) error {
	if from == to {
		return nil
	}
	if err := s.opt.Writer.Scale(ctx, r.key.namespace, r.key.name, to); err != nil {
		return err
	}
	if from == 0 {
		s.opt.ColdStarts.Scaled(r.key.namespace, r.key.name, time.Now())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = to
	return nil
}

// costs gives exactly the victims among the pods their deletion cost.
func (s *Scaler) costs(ctx context.Context, r *revision, pods, victims []Pod) error {
	for _, p := range pods {
		want := 0
		if slices.ContainsFunc(victims, func(v Pod) bool { return v.Name == p.Name }) {
			want = victimCost
		}
		if p.Cost == want {
			continue
		}
		if err := s.opt.Writer.DeletionCost(ctx, r.key.namespace, p.Name, want); err != nil {
			return err
		}
	}
	return nil
}
