package autoscaler

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
)

// DrainService answers the preStop hooks of pods that Kubernetes ends on its own. Only the leader can.
type DrainService struct {
	Scaler *Scaler
	// Live reads past the cache: a hook can be faster than the watch. Nil: the cache is believed.
	Live client.Reader
}

// AwaitPodDrain blocks until every gateway and activator has acknowledged that the revision's terminating pods are
// DRAINING and nothing is in flight there, at most for the revision's timeout, and returns at once when none is
// terminating (a container restarted by its liveness probe runs the hook too). A revision that is not
// known has nothing to drain.
func (d *DrainService) AwaitPodDrain(ctx context.Context, namespace, revision string) error {
	s := d.Scaler
	s.mu.RLock()
	r := s.byKey[key{namespace, revision}]
	s.mu.RUnlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	ctx, cancel := context.WithTimeout(ctx, r.seen.Timeout)
	r.mu.Unlock()
	defer cancel()

	pods, changed := r.terminating()
	if len(pods) == 0 && d.Live != nil {
		live, err := d.live(ctx, namespace, revision)
		if err != nil {
			return err
		}
		for live && len(pods) == 0 {
			// The watch is behind by some milliseconds.
			select {
			case <-ctx.Done():
				return fmt.Errorf("revision %s/%s: its terminating pod does not show in the cache: %w", namespace, revision, ctx.Err())
			case <-changed:
			case <-time.After(time.Second):
				if live, err = d.live(ctx, namespace, revision); err != nil {
					return err
				}
			}
			pods, changed = r.terminating()
		}
	}
	if len(pods) == 0 {
		return nil
	}
	if err := s.opt.Drainer.AwaitDrained(ctx, namespace, revision); err != nil {
		return fmt.Errorf("revision %s/%s: draining was not acknowledged: %w", namespace, revision, err)
	}
	if err := s.opt.Load.AwaitIdle(ctx, r.cluster, pods); err != nil {
		return fmt.Errorf("revision %s/%s: terminating pods: %w", namespace, revision, err)
	}
	return nil
}

func (r *revision) terminating() (addrs []netip.AddrPort, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.seen.Pods {
		if p.Terminating && p.Addr.IsValid() {
			addrs = append(addrs, p.Addr)
		}
	}
	if r.gone {
		return nil, r.changed
	}
	return addrs, r.changed
}

func (d *DrainService) live(ctx context.Context, namespace, revision string) (bool, error) {
	var pods corev1.PodList
	if err := d.Live.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{serving.RevisionLabel: revision}); err != nil {
		return false, fmt.Errorf("revision %s/%s: list its pods: %w", namespace, revision, err)
	}
	for i := range pods.Items {
		if !pods.Items[i].DeletionTimestamp.IsZero() && pods.Items[i].Status.PodIP != "" {
			return true, nil
		}
	}
	return false, nil
}
