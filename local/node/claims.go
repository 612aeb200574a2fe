package node

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"ebb.dev/ebb/local/storage"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// retryClaims is how long a pod waits after a failed look at its claims.
const retryClaims = time.Second

// awaitClaims waits until the pod can have its claims, before it is bound, and tells meanwhile
// what they lack, as a scheduler does. False when the pod or the node ends first: an object
// that ends unbound is the API server's. A pod that is bound already waits at its mounts.
func (p *pod) awaitClaims() bool {
	o := p.object()
	if o.Spec.NodeName != "" {
		return true
	}
	ctx, cancel := p.untilStopping()
	defer cancel()
	select {
	case <-p.n.listed: // who has which claim
	case <-ctx.Done():
		return false
	}
	told := ""
	for {
		changed := p.n.storage.Changed() // before the look, so that no change falls between
		missing, err := p.n.storage.Missing(ctx, o)
		if err == nil && missing == "" {
			missing = p.takeClaims(o)
		}
		if err == nil && missing == "" {
			return true
		}
		var again <-chan time.Time
		if err == nil && missing != told {
			if err = p.unschedulable(o, missing); err == nil {
				told = missing
			}
		}
		if err != nil && ctx.Err() == nil {
			p.n.log.Warn("look at the claims of a pod", "pod", p.name, "error", err)
			again = time.After(retryClaims)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return false
		}
	}
}

func claimsOf(o *v1.Pod) map[string]bool {
	names := map[string]bool{}
	for i := range o.Spec.Volumes {
		if name := storage.ClaimOf(o, &o.Spec.Volumes[i]); name != "" {
			names[name] = true
		}
	}
	return names
}

// takeClaims makes the claims the pod's, or says which other pod has one that only one may have.
func (p *pod) takeClaims(o *v1.Pod) (missing string) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	mine := claimsOf(o)
	for name := range mine {
		if !p.n.storage.Alone(o.Namespace, name) {
			continue
		}
		for _, other := range p.n.pods {
			if other != p && other.claims[name] && strings.HasPrefix(other.name, o.Namespace+"/") {
				return fmt.Sprintf("persistentvolumeclaim %q has access mode ReadWriteOncePod and pod %s has it: it is free when that pod is gone", name, other.name)
			}
		}
	}
	p.claims = mine
	return ""
}

// leaveClaims lets others have them.
func (p *pod) leaveClaims() {
	p.n.mu.Lock()
	had := len(p.claims) > 0
	p.claims = nil
	p.n.mu.Unlock()
	if had {
		p.n.storage.Poke()
	}
}

// unschedulable tells the pod why it waits; nobody else writes its status meanwhile.
func (p *pod) unschedulable(o *v1.Pod, why string) error {
	now := v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: p.uid}, Status: *o.Status.DeepCopy()}
	next := *now.DeepCopy()
	next.Status.Conditions = []v1.PodCondition{{
		Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: v1.PodReasonUnschedulable, Message: why, LastTransitionTime: metav1.Now(),
	}}
	patch, err := difference(&now, &next)
	if err != nil {
		return err
	}
	_, err = p.n.client.CoreV1().Pods(o.Namespace).Patch(p.n.ctx, o.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it has gone, and its watch says so
	}
	if err != nil {
		return fmt.Errorf("write that it waits: %w", err)
	}
	p.n.events.Event(p.object(), v1.EventTypeWarning, "FailedScheduling", why)
	return nil
}

// claimed is the folder of the claim behind a volume.
func (v *volumes) claimed(s *v1.Volume) (dir string, readOnly bool, err error) {
	o := v.p.object()
	ctx, cancel := v.p.untilStopping()
	defer cancel()
	source, err := v.p.n.storage.Source(ctx, o, s)
	if err != nil {
		return "", false, err
	}
	if err := hostPath(source); err != nil {
		return "", false, fmt.Errorf("the folder of its persistentvolume: %w", err)
	}
	readOnly = s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ReadOnly
	if g := v.p.fsGroup(); g != nil && !readOnly && v.p.n.mayOwn() {
		err = v.own(s.Name, source.Path, *g)
	}
	return source.Path, readOnly, err
}

// own gives the group of the pod what is in a volume, once for the pod, unless it is asked to
// look at the folder alone.
func (v *volumes) own(name, dir string, group int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.owned[name] {
		return nil
	}
	if policy := v.p.object().Spec.SecurityContext.FSGroupChangePolicy; policy != nil && *policy == v1.FSGroupChangeOnRootMismatch {
		if info, err := os.Stat(dir); err == nil && info.Mode()&os.ModeSetgid != 0 && groupOf(info) == group {
			return nil
		}
	}
	if err := share(dir, group, false); err != nil {
		return fmt.Errorf("give it to group %d: %w", group, err)
	}
	v.owned[name] = true
	return nil
}

func groupOf(info os.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Gid)
	}
	return -1
}
