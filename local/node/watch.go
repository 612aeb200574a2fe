package node

import (
	"context"
	"errors"
	"strconv"
	"time"

	"ebb.dev/ebb/local/storage"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// watch follows all pods of the API server: there is no other node, and an
// unscheduled pod is this node's as soon as it is seen.
func (n *Node) watch(ctx context.Context) error {
	lw := cache.NewListWatchFromClient(n.client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.Everything())
	seen := func(o any) {
		if p, ok := o.(*v1.Pod); ok {
			n.see(p)
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw, ObjectType: &v1.Pod{},
		Transform: func(o any) (any, error) {
			if p, ok := o.(*v1.Pod); ok {
				p.ManagedFields = nil
			}
			return o, nil
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    seen,
			UpdateFunc: func(_, o any) { seen(o) },
			DeleteFunc: func(o any) {
				if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = d.Obj
				}
				if p, ok := o.(*v1.Pod); ok {
					n.gone(p)
				}
			},
		},
	})
	n.work.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			close(n.listed)
			n.removeStrangers()
		}
	})
	informer.Run(ctx.Done())
	return nil
}

// see takes the newest state of a pod.
func (n *Node) see(o *v1.Pod) {
	if o.Spec.NodeName != "" && o.Spec.NodeName != n.cfg.Name || o.Spec.SchedulerName != "" && o.Spec.SchedulerName != v1.DefaultSchedulerName && o.Spec.NodeName == "" {
		return
	}
	n.mu.Lock()
	p := n.pods[o.UID]
	if p == nil {
		if finished(o) && o.DeletionTimestamp == nil {
			n.mu.Unlock()
			return
		}
		p = newPod(n, o)
		if o.Spec.NodeName != "" && storage.HasClaims(o) {
			p.claims = claimsOf(o)
		}
		n.pods[o.UID] = p
		n.mu.Unlock()
		n.work.Go(p.run)
		return
	}
	n.mu.Unlock()
	p.update(o)
}

func finished(o *v1.Pod) bool {
	return o.Status.Phase == v1.PodSucceeded || o.Status.Phase == v1.PodFailed
}

// gone ends a pod whose object has gone: nobody waits for its grace.
func (n *Node) gone(o *v1.Pod) {
	n.mu.Lock()
	p := n.pods[o.UID]
	n.mu.Unlock()
	if p != nil {
		p.forget()
	}
}

func (n *Node) drop(p *pod) {
	p.leaveClaims()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pods, p.uid)
}

// bind assigns the pod to this node, its port with it in the same write. It
// tries until it is done or cannot be done any more.
func (n *Node) bind(p *pod, o *v1.Pod) error {
	b := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID, Annotations: map[string]string{PortAnnotation: strconv.Itoa(p.portNow())}},
		Target:     v1.ObjectReference{Kind: "Node", Name: n.cfg.Name},
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := n.client.CoreV1().Pods(o.Namespace).Bind(n.ctx, b, metav1.CreateOptions{})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return err
		}
		n.log.Warn("bind", "pod", p.name, "error", err)
		if !n.later(wait, p.stopping) {
			return errors.New("the pod or the node ended before the pod was bound")
		}
	}
}
