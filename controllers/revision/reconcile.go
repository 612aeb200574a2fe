package revision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	watch "ebb.dev/ebb/controllers/settings"
)

const (
	manager = "ebb-revision"
	// creator writes a Deployment once, with its replicas, and so does not own them later.
	creator = "ebb-create"
	// byRevision indexes pods by the UID of their Revision.
	byRevision = "ebb.revision.uid"
)

// Options of the controller.
type Options struct {
	// Settings of the platform. Required.
	Settings *settings.Store
	// DrainAddress is the host:port that a pod's preStop hook calls before the pod ends;
	// "" leaves the hook out.
	DrainAddress string
	// Workers is the number of Revisions worked on at the same time, and of those for which
	// one registry is asked at the same time; 0 means 8.
	Workers int
}

type reconciler struct {
	client.Client
	live     client.Reader // the API server itself, past the cache
	events   events.EventRecorder
	settings *settings.Store
	digests  *resolver
	drain    string
	now      func() time.Time
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Settings == nil {
		return fmt.Errorf("add the revision controller: Options.Settings is required")
	}
	if opts.Workers == 0 {
		opts.Workers = 8
	}
	r := &reconciler{
		Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("ebb-revision"), settings: opts.Settings,
		digests: newResolver(opts.Settings, opts.Workers, pullSecrets(mgr.GetAPIReader())), drain: opts.DrainAddress, now: time.Now,
	}
	if err := mgr.Add(r.digests); err != nil {
		return fmt.Errorf("add the workers that resolve digests: %w", err)
	}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, byRevision, func(o client.Object) []string {
		if uid := o.GetLabels()[serving.RevisionUIDLabel]; uid != "" {
			return []string{uid}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index pods by revision: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).
		Named("revision").
		For(&v1.Revision{}).
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(deploymentOf)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(revisionOf), builder.WithPredicates(ofRevision())).
		WatchesRawSource(source.Channel(r.digests.answers, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, rev *v1.Revision) []reconcile.Request { return request(rev) }))).
		WatchesRawSource(watch.Source(opts.Settings, r.all)).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the revision controller: %w", err)
	}
	return nil
}

func request(o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
}

func revisionOf(_ context.Context, pod client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{
		Namespace: pod.GetNamespace(), Name: pod.GetLabels()[serving.RevisionLabel]}}}
}

// deploymentOf goes by the name, so that a Deployment in the way wakes the Revision too.
func deploymentOf(_ context.Context, d client.Object) []reconcile.Request {
	revision, ok := strings.CutSuffix(d.GetName(), deploymentName(""))
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: d.GetNamespace(), Name: revision}}}
}

func ofRevision() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetLabels()[serving.RevisionLabel] != "" })
}

func (r *reconciler) all(ctx context.Context) ([]reconcile.Request, error) {
	list := &v1.RevisionList{}
	if err := r.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, request(&list.Items[i])...)
	}
	return requests, nil
}

// Reconcile brings one Revision's Deployment and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	rev := &v1.Revision{}
	if err := r.Get(ctx, req.NamespacedName, rev); err != nil {
		if apierrors.IsNotFound(err) {
			r.digests.forgetNamed(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !rev.DeletionTimestamp.IsZero() {
		r.digests.forget(rev.UID)
		return ctrl.Result{}, nil
	}
	next := rev.DeepCopy()
	if apply.Paused(rev) {
		next.Status.Conditions.SetPaused(r.now())
		_, err := apply.Status(ctx, r.Client, manager, next, rev)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	next.Status.Conditions.Remove(v1.ConditionPaused)
	next.Status.ObservedGeneration = rev.Generation
	workErr := r.run(ctx, next)
	next.Status.Conditions.Aggregate(v1.RevisionDependents(), r.now())
	changed, err := apply.Status(ctx, r.Client, manager, next, rev)
	if changed && err == nil {
		r.report(rev, next)
	}
	if workErr != nil {
		return ctrl.Result{}, workErr
	}
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// run does what the Revision needs and writes what it sees into rev.Status. The error is
// one to try again after.
func (r *reconciler) run(ctx context.Context, rev *v1.Revision) error {
	if !r.resolved(rev) {
		return nil
	}
	d, err := r.deployment(ctx, rev)
	if d == nil {
		return err
	}
	pods := &corev1.PodList{}
	if err := r.List(ctx, pods, client.InNamespace(rev.Namespace), client.MatchingFields{byRevision: string(rev.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("revision %s/%s: list pods: %w", rev.Namespace, rev.Name, err)
	}
	initial, scaleErr := r.initialScale(ctx, rev)
	if scaleErr != nil {
		return errors.Join(err, scaleErr)
	}
	observe(&rev.Status, d, pods.Items, initial, r.now())
	return err
}

// initialScale is the number of pods that the Revision is made with, by what scales it now.
func (r *reconciler) initialScale(ctx context.Context, rev *v1.Revision) (int32, error) {
	scaled, err := v1.ReadScaled(rev, func(name string, into metav1.Object) error {
		return r.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: name}, into.(client.Object),
			&client.GetOptions{UnsafeDisableDeepCopy: new(true)})
	})
	if err != nil {
		return 0, err
	}
	return initialScale(scaled, r.settings.Load()), nil
}

// resolved says whether the Revision's images are known by digest, and asks for them if not.
func (r *reconciler) resolved(rev *v1.Revision) bool {
	if len(rev.Status.ContainerStatuses) == len(rev.Spec.Containers) && len(rev.Status.InitContainerStatuses) == len(rev.Spec.InitContainers) {
		r.digests.forget(rev.UID)
		return true
	}
	digests, err := r.digests.resolve(rev)
	conditions, now := &rev.Status.Conditions, r.now()
	switch {
	case err != nil && !isUnavailable(err):
		conditions.SetUnknown(v1.RevisionResourcesAvailable, v1.ReasonResolvingDigests, "", now)
		conditions.SetFalse(v1.RevisionContainerHealthy, v1.ReasonContainerMissing, err.Error(), now)
		return false
	case digests == nil:
		if conditions.Get(v1.RevisionContainerHealthy).IsFalse() {
			return false // the last answer about the images holds until there is a new one
		}
		message := ""
		if err != nil {
			message = err.Error() + "; it is tried again."
		}
		conditions.SetUnknown(v1.RevisionResourcesAvailable, v1.ReasonResolvingDigests, message, now)
		conditions.SetUnknown(v1.RevisionContainerHealthy, v1.ReasonResolvingDigests, message, now)
		return false
	}
	rev.Status.ContainerStatuses = containerStatuses(rev.Spec.Containers, digests)
	rev.Status.InitContainerStatuses = containerStatuses(rev.Spec.InitContainers, digests)
	rev.Status.Conditions.SetUnknown(v1.RevisionContainerHealthy, v1.ReasonDeploying, "", now)
	return true
}

func containerStatuses(containers []corev1.Container, digests map[string]string) []v1.ContainerStatus {
	var out []v1.ContainerStatus
	for _, c := range containers {
		out = append(out, v1.ContainerStatus{Name: c.Name, ImageDigest: digests[c.Name]})
	}
	return out
}

// deployment makes or updates the Revision's Deployment and returns it as last seen; nil
// when there is none, with the reason in the status or in the error.
func (r *reconciler) deployment(ctx context.Context, rev *v1.Revision) (*appsv1.Deployment, error) {
	s := r.settings.Load()
	want := makeDeployment(rev, s, r.drain)
	seen := &appsv1.Deployment{}
	err := r.Get(ctx, client.ObjectKeyFromObject(want), seen)
	if apierrors.IsNotFound(err) {
		initial, err := r.initialScale(ctx, rev)
		if err != nil {
			return nil, err
		}
		return r.create(ctx, rev, want, initial)
	}
	if err != nil {
		return nil, fmt.Errorf("revision %s/%s: read deployment %s: %w", rev.Namespace, rev.Name, want.Name, err)
	}
	if !metav1.IsControlledBy(seen, rev) {
		return nil, r.notOwned(rev, want)
	}
	_, err = apply.Object(ctx, r.Client, manager, want, seen)
	return seen, err
}

func (r *reconciler) create(ctx context.Context, rev *v1.Revision, want *appsv1.Deployment, replicas int32) (*appsv1.Deployment, error) {
	// The hash is of the Deployment without replicas, as it is applied later.
	if err := apply.Stamp(want); err != nil {
		return nil, err
	}
	want.Spec.Replicas = &replicas
	err := r.Create(ctx, want, client.FieldOwner(creator))
	switch {
	case err == nil:
		// Whatever kept it from being made does not any more.
		rev.Status.Conditions.SetUnknown(v1.RevisionResourcesAvailable, v1.ReasonDeploying, "", r.now())
		return want, nil
	case apierrors.IsAlreadyExists(err):
		return nil, r.inTheWay(ctx, rev, want)
	case apply.Refused(err):
		rev.Status.Conditions.SetFalse(v1.RevisionResourcesAvailable, "FailedCreate", err.Error(), r.now())
	}
	return nil, fmt.Errorf("revision %s/%s: create deployment %s: %w", rev.Namespace, rev.Name, want.Name, err)
}

// inTheWay says what to do about a Deployment that exists, but not in the cache: either
// the cache is behind, or the Deployment is not one of Ebb's, which it does not hold.
func (r *reconciler) inTheWay(ctx context.Context, rev *v1.Revision, want *appsv1.Deployment) error {
	seen := &appsv1.Deployment{}
	err := r.live.Get(ctx, client.ObjectKeyFromObject(want), seen)
	if err == nil && !metav1.IsControlledBy(seen, rev) {
		return r.notOwned(rev, want)
	}
	return errors.Join(fmt.Errorf("revision %s/%s: deployment %s was made, but has not been seen yet", rev.Namespace, rev.Name, want.Name), err)
}

// notOwned notes it in the status and returns an error to try again after: the end of
// what is in the way may not be seen.
func (r *reconciler) notOwned(rev *v1.Revision, want *appsv1.Deployment) error {
	text := fmt.Sprintf("A Deployment named %q exists and does not belong to this Revision; delete it or give the Revision another name.", want.Name)
	rev.Status.Conditions.SetFalse(v1.RevisionResourcesAvailable, v1.ReasonNotOwned, text, r.now())
	return fmt.Errorf("revision %s/%s: %s", rev.Namespace, rev.Name, text)
}

func (r *reconciler) report(before, after *v1.Revision) {
	was, is := before.Status.Conditions.Get(v1.ConditionReady), after.Status.Conditions.Get(v1.ConditionReady)
	switch {
	case is.IsTrue() && !was.IsTrue():
		if after.Labels[serving.ServiceLabel] != "" {
			return // the Service says so, one Event for all that is made with it
		}
		r.events.Eventf(after, nil, corev1.EventTypeNormal, "Ready", "RunRevision", "The Revision is ready to serve")
	case is.IsFalse() && (!was.IsFalse() || was.Reason != is.Reason):
		r.events.Eventf(after, nil, corev1.EventTypeWarning, nonEmpty(is.Reason, "Failed"), "RunRevision", "%s", is.Message)
	}
}
