package configuration

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
)

const (
	manager = "ebb-configuration"
	// byOwner indexes Revisions by the UID of the Configuration that controls them.
	byOwner = "ebb.configuration.owner"
)

// Options of the controller; the zero value will do.
type Options struct {
	// Workers is the number of Configurations worked on at the same time; 0 means 4.
	Workers int
}

type reconciler struct {
	client.Client
	live   client.Reader // the API server itself, past the cache
	events events.EventRecorder
	now    func() time.Time
}

// Add puts the controller into mgr. It does not block; the controller runs with mgr.
func Add(mgr ctrl.Manager, opts Options) error {
	r := &reconciler{Client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("ebb-configuration"), now: time.Now}
	if opts.Workers == 0 {
		opts.Workers = 4
	}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1.Revision{}, byOwner, func(o client.Object) []string {
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == v1.KindConfiguration {
			return []string{string(owner.UID)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index revisions by configuration: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).
		Named("configuration").
		For(&v1.Configuration{}).
		Watches(&v1.Revision{}, handler.EnqueueRequestsFromMapFunc(configurationOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Workers}).
		Complete(apply.UnlessLeaving(r))
	if err != nil {
		return fmt.Errorf("add the configuration controller: %w", err)
	}
	return nil
}

// configurationOf goes by the label and by the owner, so that a Revision in the way of
// another Configuration's name wakes at least the one it claims to be of.
func configurationOf(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[serving.ConfigurationLabel]
	if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == v1.KindConfiguration {
		name = owner.Name
	}
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
}

// Reconcile makes the Revision of one Configuration's current generation and writes its status.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := &v1.Configuration{}
	if err := r.Get(ctx, req.NamespacedName, c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	next := c.DeepCopy()
	if apply.Paused(c) {
		next.Status.Conditions.SetPaused(r.now())
		_, err := apply.Status(ctx, r.Client, manager, next, c)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s, workErr := r.look(ctx, c)
	if workErr != nil && s.refused == "" {
		return ctrl.Result{}, workErr
	}
	next.Status = observe(c, s, r.now())
	// A Service whose template names its Revision waits to hear that the name is had.
	if wait := apply.Early(c, &c.Status.Status, &next.Status.Status, r.now()); wait > 0 && c.Spec.Template.Name == "" {
		return ctrl.Result{RequeueAfter: wait}, workErr
	}
	changed, err := apply.Status(ctx, r.Client, manager, next, c)
	if changed && err == nil {
		r.report(c, next)
	}
	return ctrl.Result{}, errors.Join(workErr, client.IgnoreNotFound(err))
}

// look makes the Revision where there is none. The error is one to try again after; with
// s.refused set it is also one to show.
func (r *reconciler) look(ctx context.Context, c *v1.Configuration) (seen, error) {
	s := seen{name: revisionName(c)}
	rev := &v1.Revision{}
	key := types.NamespacedName{Namespace: c.Namespace, Name: s.name}
	err := r.Get(ctx, key, rev)
	if apierrors.IsNotFound(err) {
		rev = makeRevision(c, r.now())
		err = r.Create(ctx, rev)
		if apierrors.IsAlreadyExists(err) {
			// The cache is behind. What the Revision says of itself counts when the cache
			// has it: taken now, it would be taken back by the older state that comes next.
			rev = &v1.Revision{}
			err = r.live.Get(ctx, key, rev)
			rev.Status = v1.RevisionStatus{}
		}
	}
	if err != nil {
		if apply.Refused(err) {
			s.refused = err.Error()
		}
		return s, fmt.Errorf("configuration %s/%s: revision %s: %w", c.Namespace, c.Name, s.name, err)
	}
	if !madeFrom(rev, c) {
		s.taken = fmt.Sprintf("The revision name %q is taken by a Revision with other content; choose a new name in spec.template.metadata.name, or leave it out.", s.name)
		return s, nil
	}
	s.latest = rev
	list := &v1.RevisionList{}
	if err := r.List(ctx, list, client.InNamespace(c.Namespace), client.MatchingFields{byOwner: string(c.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("configuration %s/%s: list revisions: %w", c.Namespace, c.Name, err)
	}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp.IsZero() {
			s.revisions = append(s.revisions, &list.Items[i])
		}
	}
	return s, nil
}

func (r *reconciler) report(before, after *v1.Configuration) {
	if b, a := before.Status.LatestReadyRevisionName, after.Status.LatestReadyRevisionName; a != "" && a != b && !apply.OfService(after) {
		r.events.Eventf(after, nil, corev1.EventTypeNormal, "LatestReadyUpdate", "FollowRevision", "Latest ready Revision is now %q", a)
	}
	was, is := before.Status.Conditions.Get(v1.ConditionReady), after.Status.Conditions.Get(v1.ConditionReady)
	if is.IsFalse() && (!was.IsFalse() || was.Message != is.Message) {
		r.events.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "FollowRevision", "%s", is.Message)
	}
}
