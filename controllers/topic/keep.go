package topic

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/eventing/translate"
)

// Again is when the engine, or an object of a kind that is not watched, is asked again.
const (
	Again     = 5 * time.Second
	LookAgain = 30 * time.Second
)

// Keeper keeps topics.
type Keeper struct {
	Client   client.Client
	Engine   engine.Engine
	Sinks    *sink.Resolver
	Settings *settings.Store
	// Ingress is the base URL of the ingress, like http://broker-ingress.ebb-system.svc.cluster.local.
	Ingress string
	Now     func() time.Time
}

// Owner is what Keep needs of a Broker or a Channel. The pointers are into its status.
type Owner struct {
	Object   client.Object
	Address  plan.Address
	Delivery *duck.DeliverySpec

	Status     *serving.Status
	Addresses  *duck.AddressStatus
	DeadLetter *duck.DeliveryStatus
	// Dependents decide Ready.
	Dependents []string
}

// Keep brings the topic of an object that stays up to date, and its status. It returns when to look again,
// 0 for when something changes. The error is one to try again after.
func (k *Keeper) Keep(ctx context.Context, o Owner) (time.Duration, error) {
	now, s := k.Now(), k.Settings.Load()
	conditions := &o.Status.Conditions
	o.Status.ObservedGeneration = o.Object.GetGeneration()
	defer func() { conditions.Aggregate(o.Dependents, now) }()

	again, err := k.deadLetter(ctx, o, now)
	if err != nil {
		return again, err
	}
	// From here on the object does not go before its topic does.
	if err := Hold(ctx, k.Client, o.Object); err != nil {
		return again, err
	}
	want := translate.Engine(o.Address, string(o.Object.GetUID()), s)
	err = k.Engine.PutTopic(ctx, want)
	if err == nil {
		err = k.Engine.PutTopic(ctx, translate.DeadLetters(want, s))
	}
	if err != nil {
		conditions.Set(Refusal(eventingv1.TopicReady, fmt.Sprintf("%s %s/%s: its topic could not be made", o.Address.Kind, o.Address.Namespace, o.Address.Name), err), now)
		if conditions.Get(eventingv1.Addressable) == nil {
			conditions.SetUnknown(eventingv1.Addressable, eventingv1.ReasonNotReady, "There is no topic yet.", now)
		}
		return Again, nil
	}
	Note(o.Status, eventing.TopicAnnotation, want.Name)
	conditions.SetTrue(eventingv1.TopicReady, now)
	o.Addresses.Address = &serving.Addressable{Name: new("http"), URL: k.Ingress + o.Address.Path()}
	o.Addresses.Addresses = []serving.Addressable{*o.Addresses.Address}
	conditions.SetTrue(eventingv1.Addressable, now)
	return again, nil
}

func (k *Keeper) deadLetter(ctx context.Context, o Owner, now time.Time) (time.Duration, error) {
	if o.Delivery == nil || o.Delivery.DeadLetterSink.Empty() {
		*o.DeadLetter = duck.DeliveryStatus{}
		o.Status.Conditions.Set(NoDeadLetterSink(), now)
		return 0, nil
	}
	found, condition, again, err := k.DeadLetter(ctx, o.Delivery.DeadLetterSink, o.Object.GetNamespace())
	if err != nil {
		return again, err
	}
	if found != nil {
		*o.DeadLetter = *found
	}
	o.Status.Conditions.Set(condition, now)
	return again, nil
}

// DeadLetter resolves a dead-letter sink; nil: the last good address stays.
func (k *Keeper) DeadLetter(ctx context.Context, d *duck.Destination, namespace string) (*duck.DeliveryStatus, serving.Condition, time.Duration, error) {
	a, err := k.Sinks.Resolve(ctx, d, namespace)
	var again time.Duration
	if a.Unwatched || sink.Unwatched(err) {
		again = LookAgain
	}
	if err == nil {
		return &duck.DeliveryStatus{DeadLetterSinkURI: a.URL, DeadLetterSinkCACerts: a.CACerts, DeadLetterSinkAudience: a.Audience},
			serving.Condition{Type: eventingv1.DeadLetterSinkResolved, Status: corev1.ConditionTrue}, again, nil
	}
	text, unresolved := sink.Message(err)
	if !unresolved {
		return nil, serving.Condition{}, again, err
	}
	return nil, serving.Condition{
		Type: eventingv1.DeadLetterSinkResolved, Status: corev1.ConditionFalse,
		Reason: eventingv1.ReasonDeadLetterSinkUnresolved, Message: sink.Sentence("Dead-letter sink: " + text),
	}, again, nil
}

// NoDeadLetterSink is the condition where there is none.
func NoDeadLetterSink() serving.Condition {
	return serving.Condition{
		Type: eventingv1.DeadLetterSinkResolved, Status: corev1.ConditionTrue,
		Reason: eventingv1.ReasonDeadLetterSinkNotGiven, Message: "What cannot be delivered is kept in the store of events.",
	}
}

// Drop deletes the topic of an object that is being deleted, with its dead letters, and lets the object go. It
// returns when to try again, 0 for when it is done.
func (k *Keeper) Drop(ctx context.Context, o client.Object, a plan.Address) (time.Duration, error) {
	if !controllerutil.ContainsFinalizer(o, eventing.Finalizer) {
		return 0, nil
	}
	name := plan.TopicName(a, string(o.GetUID()))
	if err := errors.Join(k.Engine.DeleteTopic(ctx, name), k.Engine.DeleteTopic(ctx, plan.DeadLetters(name))); err != nil {
		return Later(ctx, fmt.Errorf("%s %s/%s: delete its topic: %w", a.Kind, a.Namespace, a.Name, err))
	}
	return 0, Release(ctx, k.Client, o)
}

// Later is when to try again after an error of the engine that has no place in a status.
func Later(ctx context.Context, err error) (time.Duration, error) {
	if ctx.Err() == nil {
		ctrl.LoggerFrom(ctx).Info("tried again soon", "error", err.Error())
	}
	return Again, nil
}

// Refusal is the condition after an error of the engine.
func Refusal(kind, what string, err error) serving.Condition {
	c := serving.Condition{Type: kind, Status: corev1.ConditionFalse, Reason: eventingv1.ReasonStoreRefused, Message: sink.Sentence(what + ": " + err.Error())}
	if errors.Is(err, engine.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		c.Status, c.Reason = corev1.ConditionUnknown, eventingv1.ReasonStoreUnavailable
	}
	return c
}

// Note writes an annotation of a status; "" takes it away.
func Note(s *serving.Status, key, value string) {
	annotations := map[string]string{}
	for k, v := range s.Annotations {
		annotations[k] = v
	}
	if delete(annotations, key); value != "" {
		annotations[key] = value
	}
	s.Annotations = annotations
}

// manager owns the finalizer.
const manager = "ebb-eventing"

// Hold keeps an object from going before Release.
func Hold(ctx context.Context, c client.Client, o client.Object) error {
	if controllerutil.ContainsFinalizer(o, eventing.Finalizer) {
		return nil
	}
	version, err := apply.Finalizers(ctx, c, manager, o, eventing.Finalizer)
	if err != nil {
		return err
	}
	controllerutil.AddFinalizer(o, eventing.Finalizer)
	o.SetResourceVersion(version)
	return nil
}

// Release lets an object go, whoever else has written the finalizer meanwhile: a copy that was restored has it from there.
func Release(ctx context.Context, c client.Client, o client.Object) error {
	next := o.DeepCopyObject().(client.Object)
	controllerutil.RemoveFinalizer(next, eventing.Finalizer)
	err := c.Patch(ctx, next, client.MergeFromWithOptions(o, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("%T %s/%s: let it go: %w", o, o.GetNamespace(), o.GetName(), err)
	}
	return nil
}
