package trigger

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
	"ebb.dev/ebb/eventing/filter"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/eventing/translate"
)

const manager = "ebb-trigger"

type reconciler struct {
	client.Client
	live   client.Reader
	events events.EventRecorder
	keeper *topic.Keeper
	now    func() time.Time
}

// Reconcile brings one Trigger's place and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	t := &eventingv1.Trigger{}
	if err := r.Get(ctx, req.NamespacedName, t); apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	if t.DeletionTimestamp != nil {
		if !controllerutil.ContainsFinalizer(t, eventing.Finalizer) {
			return ctrl.Result{}, nil
		}
		again, err := r.drop(ctx, t)
		return ctrl.Result{RequeueAfter: again}, err
	}
	b := &eventingv1.Broker{}
	if err := r.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: t.Spec.Broker}, b); apierrors.IsNotFound(err) {
		b = nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	if b != nil && !eventing.Ours(b.Annotations) {
		return ctrl.Result{}, nil
	}
	next := t.DeepCopy()
	w := &work{reconciler: r, t: t, next: next, b: b, now: r.now()}
	workErr := w.do(ctx)
	changed, err := apply.Status(ctx, r.Client, manager, next, t)
	if changed {
		r.report(t, next)
	}
	return ctrl.Result{RequeueAfter: w.again}, errors.Join(workErr, client.IgnoreNotFound(err))
}

// drop gives up the place of a Trigger that goes: where its status says it is, and where it would be, if that
// could not be written down any more.
func (r *reconciler) drop(ctx context.Context, t *eventingv1.Trigger) (time.Duration, error) {
	names := []string{t.Status.Annotations[eventing.TopicAnnotation]}
	b := &eventingv1.Broker{}
	err := r.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: t.Spec.Broker}, b)
	if client.IgnoreNotFound(err) != nil {
		return 0, err
	}
	if err == nil {
		names = append(names, topicOf(b))
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := r.keeper.Engine.DeleteSubscription(ctx, name, string(t.UID)); err != nil {
			return topic.Later(ctx, fmt.Errorf("give up the place of Trigger %s/%s in %s: %w", t.Namespace, t.Name, name, err))
		}
	}
	return 0, topic.Release(ctx, r.Client, t)
}

func topicOf(b *eventingv1.Broker) string {
	return plan.TopicName(plan.Address{Kind: plan.Broker, Namespace: b.Namespace, Name: b.Name}, string(b.UID))
}

// work is on one Trigger, once.
type work struct {
	*reconciler
	t, next *eventingv1.Trigger
	b       *eventingv1.Broker // nil: there is none
	now     time.Time
	again   time.Duration // when to look again; 0: when something changes
}

func (w *work) lookAgain(after time.Duration) {
	if after > 0 && (w.again == 0 || after < w.again) {
		w.again = after
	}
}

// do fills next.Status. The error is one to try again after.
func (w *work) do(ctx context.Context) error {
	conditions := &w.next.Status.Conditions
	w.next.Status.ObservedGeneration = w.t.Generation
	defer func() { conditions.Aggregate(eventingv1.TriggerDependents(), w.now) }()

	w.broker()
	w.filter()
	err := errors.Join(w.subscriber(ctx), w.dependency(ctx), w.deadLetter(ctx))
	if err != nil {
		return err
	}
	return w.place(ctx)
}

// place keeps the place in the topic.
func (w *work) place(ctx context.Context) error {
	conditions, status := &w.next.Status.Conditions, &w.next.Status
	not := func(why string) {
		conditions.SetUnknown(eventingv1.SubscriptionReady, eventingv1.ReasonNotReady, why, w.now)
	}
	if w.b == nil || w.b.DeletionTimestamp != nil {
		// The topic goes with the Broker, and places go with the topic.
		topic.Note(&status.Status, eventing.TopicAnnotation, "")
		not("There is no Broker to have a place with.")
		return nil
	}
	name := topicOf(w.b)
	if w.b.Status.Annotations[eventing.TopicAnnotation] != name {
		not("The Broker has no topic yet.")
		return nil
	}
	if w.t.Status.Annotations[eventing.TopicAnnotation] != name {
		// The first time. Later on, the place stays when one of these is not so any more.
		for _, kind := range []string{eventingv1.FilterReady, eventingv1.SubscriberResolved, eventingv1.DependencyReady} {
			if !conditions.Get(kind).IsTrue() {
				not("There is no place before " + kind + " is True.")
				return nil
			}
		}
	}
	if err := topic.Hold(ctx, w.Client, w.next); err != nil {
		return err
	}
	err := w.keeper.Engine.PutSubscription(ctx, translate.Place(name, string(w.t.UID), w.t.Annotations, w.keeper.Settings.Load()))
	if err != nil {
		conditions.Set(topic.Refusal(eventingv1.SubscriptionReady, fmt.Sprintf("Trigger %s/%s: no place with Broker %s could be made", w.t.Namespace, w.t.Name, w.b.Name), err), w.now)
		w.lookAgain(topic.Again)
		return nil
	}
	topic.Note(&status.Status, eventing.TopicAnnotation, name)
	conditions.SetTrue(eventingv1.SubscriptionReady, w.now)
	return nil
}

func (w *work) broker() {
	conditions := &w.next.Status.Conditions
	what := fmt.Sprintf("Broker %s/%s", w.t.Namespace, w.t.Spec.Broker)
	switch {
	case w.b == nil:
		conditions.SetFalse(eventingv1.BrokerReady, eventingv1.ReasonBrokerMissing, what+" does not exist.", w.now)
	case w.b.DeletionTimestamp != nil:
		conditions.SetFalse(eventingv1.BrokerReady, eventingv1.ReasonDeleting, what+" is being deleted.", w.now)
	case !w.b.Status.Conditions.Get(eventingv1.TopicReady).IsTrue():
		message := what + " has no topic yet."
		if ready := w.b.Status.Conditions.Get(eventingv1.TopicReady); ready != nil && ready.Message != "" {
			message = ready.Message
		}
		conditions.SetUnknown(eventingv1.BrokerReady, eventingv1.ReasonBrokerNotReady, message, w.now)
	default:
		conditions.SetTrue(eventingv1.BrokerReady, w.now)
	}
}

func (w *work) filter() {
	conditions := &w.next.Status.Conditions
	if _, err := filter.Compile(translate.Filters(w.t)); err != nil {
		conditions.SetFalse(eventingv1.FilterReady, eventingv1.ReasonFilterInvalid, sink.Sentence("No event matches: "+err.Error()), w.now)
		return
	}
	if _, err := translate.Order(w.t.Annotations, w.keeper.Settings.Load()); err != nil {
		conditions.SetFalse(eventingv1.FilterReady, eventingv1.ReasonAnnotationInvalid, sink.Sentence("The defaults hold: "+err.Error()), w.now)
		return
	}
	conditions.SetTrue(eventingv1.FilterReady, w.now)
}

func (w *work) subscriber(ctx context.Context) error {
	status := &w.next.Status
	a, err := w.keeper.Sinks.Resolve(ctx, &w.t.Spec.Subscriber, w.t.Namespace)
	if a.Unwatched || sink.Unwatched(err) {
		w.lookAgain(topic.LookAgain)
	}
	if err == nil {
		status.SubscriberURI, status.SubscriberCACerts, status.SubscriberAudience = a.URL, a.CACerts, a.Audience
		status.Conditions.SetTrue(eventingv1.SubscriberResolved, w.now)
		return nil
	}
	text, unresolved := sink.Message(err)
	if !unresolved {
		return err
	}
	if status.SubscriberURI != "" {
		text += ", its last address " + status.SubscriberURI + " stays in use"
	}
	status.Conditions.SetFalse(eventingv1.SubscriberResolved, eventingv1.ReasonNotResolved, sink.Sentence("Subscriber: "+text), w.now)
	return nil
}

// deadLetter resolves the Trigger's own dead-letter sink, and without one takes its Broker's.
func (w *work) deadLetter(ctx context.Context) error {
	status := &w.next.Status
	if d := w.t.Spec.Delivery; d != nil && !d.DeadLetterSink.Empty() {
		found, condition, again, err := w.keeper.DeadLetter(ctx, d.DeadLetterSink, w.t.Namespace)
		if err != nil {
			return err
		}
		w.lookAgain(again)
		if found != nil {
			status.DeliveryStatus = *found
		}
		status.Conditions.Set(condition, w.now)
		return nil
	}
	if w.b == nil || w.b.Spec.Delivery == nil || w.b.Spec.Delivery.DeadLetterSink.Empty() {
		status.DeliveryStatus = duck.DeliveryStatus{}
		status.Conditions.Set(topic.NoDeadLetterSink(), w.now)
		return nil
	}
	status.DeliveryStatus = w.b.Status.DeliveryStatus
	status.Conditions.Carry(eventingv1.DeadLetterSinkResolved, w.b.Status.Conditions.Get(eventingv1.DeadLetterSinkResolved), w.now)
	return nil
}

// dependency looks at the object of the annotation.
func (w *work) dependency(ctx context.Context) error {
	conditions := &w.next.Status.Conditions
	text, ok := w.t.Annotations[eventing.DependencyAnnotation]
	if !ok {
		conditions.SetTrue(eventingv1.DependencyReady, w.now)
		return nil
	}
	ref, err := eventingv1.ParseDependency(text, w.t.Namespace)
	if err != nil {
		conditions.SetFalse(eventingv1.DependencyReady, eventingv1.ReasonAnnotationInvalid, sink.Sentence(eventing.DependencyAnnotation+": "+err.Error()), w.now)
		return nil //nolint:nilerr // it is said in the condition
	}
	w.lookAgain(topic.LookAgain) // any kind of object may be named, so none is watched
	ready, found, err := readiness(ctx, w.live, ref)
	what := fmt.Sprintf("%s %s/%s", ref.Kind, ref.Namespace, ref.Name)
	switch {
	case err != nil:
		return err
	case !found:
		conditions.SetFalse(eventingv1.DependencyReady, eventingv1.ReasonDependencyMissing, what+" does not exist.", w.now)
	case ready.IsTrue():
		conditions.SetTrue(eventingv1.DependencyReady, w.now)
	default:
		message := what + " is not Ready."
		if ready != nil && ready.Message != "" {
			message = what + ": " + ready.Message
		}
		status := corev1.ConditionUnknown
		if ready.IsFalse() {
			status = corev1.ConditionFalse
		}
		conditions.Set(serving.Condition{Type: eventingv1.DependencyReady, Status: status, Reason: eventingv1.ReasonDependencyNotReady, Message: message}, w.now)
	}
	return nil
}

func (r *reconciler) report(before, after *eventingv1.Trigger) {
	was, is := before.Status.Conditions.Get(serving.ConditionReady), after.Status.Conditions.Get(serving.ConditionReady)
	switch {
	case is.IsTrue() && !was.IsTrue():
		r.events.Eventf(after, nil, corev1.EventTypeNormal, "Ready", "Trigger", "Events go to %s", after.Status.SubscriberURI)
	case is.IsFalse() && (!was.IsFalse() || was.Reason != is.Reason):
		r.events.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "Trigger", "%s", is.Message)
	}
}
