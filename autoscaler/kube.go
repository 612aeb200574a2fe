package autoscaler

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/serving"
	servingv1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

const (
	fieldManager   = "ebb-autoscaler"
	costAnnotation = "controller.kubernetes.io/pod-deletion-cost"
	podIndex       = "autoscaler.revision"
	defaultPort    = 8080
)

// Reconciler tells the Scaler what the cache has: one call for a revision whenever it, its Deployment, a pod of it, the annotations of
// its Service or Configuration, or the settings change.
type Reconciler struct {
	Client client.Client
	Scaler *Scaler
	// Settings gives the settings in effect from layers of annotations ([servingv1.ScalingLayers]), of which the last
	// wins. On error the last good settings stay.
	Settings func(revision *servingv1.Revision, layers ...map[string]string) (Settings, error)
	// Changed fires when Settings would give other answers; nil: never.
	Changed <-chan struct{}
}

// SetupWithManager registers the Reconciler, and the Scaler as a Runnable, both for the leader only.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, podIndex, func(o client.Object) []string {
		if name := o.GetLabels()[serving.RevisionLabel]; name != "" {
			return []string{name}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("autoscaler: index pods by revision: %w", err)
	}
	if err := mgr.Add(r.Scaler); err != nil {
		return fmt.Errorf("autoscaler: %w", err)
	}
	byLabel := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		name := o.GetLabels()[serving.RevisionLabel]
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
	})
	owned := func(label string) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.revisions(ctx, client.InNamespace(o.GetNamespace()), client.MatchingLabels{label: o.GetName()})
		})
	}
	// A Revision may be seen before the object that scales it.
	annotations := builder.WithPredicates(predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return servingv1.HasScaling(e.Object.GetAnnotations()) },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !servingv1.SameScaling(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
		},
	})
	b := ctrl.NewControllerManagedBy(mgr).Named("autoscaler").
		For(&servingv1.Revision{}).
		Watches(&appsv1.Deployment{}, byLabel).
		Watches(&corev1.Pod{}, byLabel).
		Watches(&servingv1.Service{}, owned(serving.ServiceLabel), annotations).
		Watches(&servingv1.Configuration{}, owned(serving.ConfigurationLabel), annotations)
	if r.Changed != nil {
		all := make(chan event.GenericEvent)
		if err := mgr.Add(forward{r.Changed, all}); err != nil {
			return fmt.Errorf("autoscaler: %w", err)
		}
		b = b.WatchesRawSource(source.Channel(all, handler.EnqueueRequestsFromMapFunc(
			func(ctx context.Context, _ client.Object) []reconcile.Request { return r.revisions(ctx) })))
	}
	return b.Complete(r)
}

// forward turns signals into events.
type forward struct {
	from <-chan struct{}
	to   chan<- event.GenericEvent
}

func (f forward) NeedLeaderElection() bool { return true }

func (f forward) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-f.from:
			if !ok {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case f.to <- event.GenericEvent{Object: &servingv1.Revision{}}:
		}
	}
}

func (r *Reconciler) revisions(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	var list servingv1.RevisionList
	if err := r.Client.List(ctx, &list, opts...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list revisions whose settings may have changed")
		return nil
	}
	out := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// Reconcile reads one revision from the cache and hands it to the Scaler.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var rev servingv1.Revision
	if err := r.Client.Get(ctx, req.NamespacedName, &rev); err != nil {
		if apierrors.IsNotFound(err) {
			r.Scaler.Remove(req.Namespace, req.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("revision %s: %w", req.NamespacedName, err)
	}
	if !rev.DeletionTimestamp.IsZero() {
		r.Scaler.Remove(req.Namespace, req.Name)
		return reconcile.Result{}, nil
	}
	layers, err := r.layers(ctx, &rev)
	if err != nil {
		return reconcile.Result{}, err
	}
	set, err := r.Settings(&rev, settings.Annotations(layers...)...)
	if err != nil {
		last, ok := r.Scaler.settings(rev.Namespace, rev.Name)
		if !ok {
			return reconcile.Result{}, fmt.Errorf("revision %s: autoscaling settings: %w", req.NamespacedName, err)
		}
		ctrl.LoggerFrom(ctx).Error(err, "autoscaling settings: the last good ones stay in effect")
		set = last
	}
	seen := Revision{
		Namespace: rev.Namespace, Name: rev.Name, UID: string(rev.UID), Settings: set,
		Timeout:     requestTimeout(&rev),
		Reachable:   rev.Labels[serving.RoutingStateLabel] != serving.RoutingStateReserve,
		Initialized: rev.Status.Conditions.Get(servingv1.ConditionReady).IsTrue(),
		Replicas:    -1,
	}
	var dep appsv1.Deployment
	switch err := r.Client.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: rev.Name + "-deployment"}, &dep); {
	case err == nil:
		seen.Replicas = 1
		if dep.Spec.Replicas != nil {
			seen.Replicas = int(*dep.Spec.Replicas)
		}
		for _, c := range dep.Status.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
				seen.Failed = true
			}
		}
	case !apierrors.IsNotFound(err):
		return reconcile.Result{}, fmt.Errorf("revision %s: deployment: %w", req.NamespacedName, err)
	}
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(rev.Namespace), client.MatchingFields{podIndex: rev.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("revision %s: pods: %w", req.NamespacedName, err)
	}
	port := userPort(&rev)
	for i := range pods.Items {
		if p, ok := podOf(&pods.Items[i], port); ok {
			r.Scaler.noteStartOf(&rev, &pods.Items[i])
			seen.Pods = append(seen.Pods, p)
		}
	}
	r.Scaler.Set(seen)
	return reconcile.Result{}, nil
}

// layers reads what scales a Revision besides itself.
func (r *Reconciler) layers(ctx context.Context, rev *servingv1.Revision) ([]settings.Layer, error) {
	return servingv1.ReadScalingLayers(rev, func(name string, into metav1.Object) error {
		return r.Client.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: name}, into.(client.Object))
	})
}

// ExplainSettings says where each setting of a Revision comes from; nil when there is no
// such Revision.
func (r *Reconciler) ExplainSettings(ctx context.Context, store *settings.Store, namespace, name string) ([]settings.Setting, error) {
	rev := &servingv1.Revision{}
	if err := r.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, rev); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	layers, err := r.layers(ctx, rev)
	if err != nil {
		return nil, err
	}
	limit := int64(0)
	if rev.Spec.ContainerConcurrency != nil {
		limit = *rev.Spec.ContainerConcurrency
	}
	return store.ExplainAutoscaling(limit, layers...), nil
}

func (s *Scaler) settings(namespace, name string) (Settings, bool) {
	s.mu.RLock()
	r := s.byKey[key{namespace, name}]
	s.mu.RUnlock()
	if r == nil {
		return Settings{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.Settings, true
}

func requestTimeout(rev *servingv1.Revision) time.Duration {
	if t := rev.Spec.TimeoutSeconds; t != nil && *t > 0 {
		return time.Duration(*t) * time.Second
	}
	return 300 * time.Second
}

// userPort is the port that the one container with a port declares.
func userPort(rev *servingv1.Revision) int {
	for i := range rev.Spec.Containers {
		for _, p := range rev.Spec.Containers[i].Ports {
			if p.ContainerPort > 0 {
				return int(p.ContainerPort)
			}
		}
	}
	return defaultPort
}

// podOf is what the Scaler needs of a pod; ok is false for one that has ended for good.
func podOf(pod *corev1.Pod, port int) (Pod, bool) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return Pod{}, false
	}
	p := Pod{
		Name: pod.Name, Created: pod.CreationTimestamp.Time,
		Running:     pod.Status.Phase == corev1.PodRunning,
		Terminating: !pod.DeletionTimestamp.IsZero(),
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			p.Ready = c.Status == corev1.ConditionTrue
		}
	}
	p.Cost, _ = strconv.Atoi(pod.Annotations[costAnnotation])
	if n, err := strconv.Atoi(pod.Annotations[serving.PortAnnotation]); err == nil {
		port = n
	}
	if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil && port > 0 && port < 1<<16 {
		p.Addr = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return p, true
}

// KubeWriter writes through the API server.
type KubeWriter struct{ Client client.Client }

// Scale patches /scale of the Deployment <revision>-deployment.
func (w KubeWriter) Scale(ctx context.Context, namespace, revision string, replicas int) error {
	dep := &appsv1.Deployment{}
	dep.Namespace, dep.Name = namespace, revision+"-deployment"
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	err := w.Client.SubResource("scale").Patch(ctx, dep, patch,
		client.FieldOwner(fieldManager), client.WithSubResourceBody(&autoscalingv1.Scale{}))
	if err != nil {
		return fmt.Errorf("deployment %s/%s: scale to %d: %w", namespace, dep.Name, replicas, err)
	}
	return nil
}

// DeletionCost patches the pod's annotation.
func (w KubeWriter) DeletionCost(ctx context.Context, namespace, pod string, cost int) error {
	value := "null"
	if cost != 0 {
		value = strconv.Quote(strconv.Itoa(cost))
	}
	p := &corev1.Pod{}
	p.Namespace, p.Name = namespace, pod
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, costAnnotation, value))
	if err := w.Client.Patch(ctx, p, patch, client.FieldOwner(fieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("pod %s/%s: deletion cost %d: %w", namespace, pod, cost, err)
	}
	return nil
}
