package subscription

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	"ebb.dev/ebb/controllers/topic"
	"ebb.dev/ebb/eventing/plan"
	"ebb.dev/ebb/eventing/translate"
)

const manager = "ebb-subscription"

type reconciler struct {
	client.Client
	keeper *topic.Keeper
	now    func() time.Time
}

// Reconcile brings one Subscription's place and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &messagingv1.Subscription{}
	if err := r.Get(ctx, req.NamespacedName, o); apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	c := &messagingv1.Channel{}
	if !ofChannel(o) {
		c = nil
	} else if err := r.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Spec.Channel.Name}, c); apierrors.IsNotFound(err) {
		c = nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	if o.DeletionTimestamp != nil {
		again, err := r.drop(ctx, o, c)
		return ctrl.Result{RequeueAfter: again}, err
	}
	next := o.DeepCopy()
	w := &work{reconciler: r, o: o, next: next, c: c, now: r.now()}
	workErr := w.do(ctx)
	_, err := apply.Status(ctx, r.Client, manager, next, o)
	return ctrl.Result{RequeueAfter: w.again}, errors.Join(workErr, client.IgnoreNotFound(err))
}

func ofChannel(o *messagingv1.Subscription) bool {
	return o.Spec.Channel.GroupKind() == schema.GroupKind{Group: messagingv1.GroupVersion.Group, Kind: messagingv1.KindChannel}
}

func topicOf(c *messagingv1.Channel) string {
	return plan.TopicName(plan.Address{Kind: plan.Channel, Namespace: c.Namespace, Name: c.Name}, string(c.UID))
}

// drop gives up the place of a Subscription that goes: where its status says it is, and where it would be.
func (r *reconciler) drop(ctx context.Context, o *messagingv1.Subscription, c *messagingv1.Channel) (time.Duration, error) {
	if !controllerutil.ContainsFinalizer(o, eventing.Finalizer) {
		return 0, nil
	}
	names := []string{o.Status.Annotations[eventing.TopicAnnotation]}
	if c != nil {
		names = append(names, topicOf(c))
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := r.keeper.Engine.DeleteSubscription(ctx, name, string(o.UID)); err != nil {
			return topic.Later(ctx, fmt.Errorf("give up the place of Subscription %s/%s in %s: %w", o.Namespace, o.Name, name, err))
		}
	}
	return 0, topic.Release(ctx, r.Client, o)
}

// work is on one Subscription, once.
type work struct {
	*reconciler
	o, next *messagingv1.Subscription
	c       *messagingv1.Channel // nil: there is none
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
	w.next.Status.ObservedGeneration = w.o.Generation
	defer func() { conditions.Aggregate(messagingv1.SubscriptionDependents(), w.now) }()
	w.channel()
	if err := w.references(ctx); err != nil {
		return err
	}
	return w.place(ctx)
}

func (w *work) channel() {
	conditions := &w.next.Status.Conditions
	what := fmt.Sprintf("Channel %s/%s", w.o.Namespace, w.o.Spec.Channel.Name)
	switch {
	case !ofChannel(w.o):
		conditions.SetFalse(messagingv1.ChannelReady, messagingv1.ReasonChannelNotOfKnown, fmt.Sprintf(
			"spec.channel is a %s of %q: make a Channel of %s instead, which is of the same store for all.", w.o.Spec.Channel.Kind, w.o.Spec.Channel.GroupKind().Group, messagingv1.GroupVersion), w.now)
	case w.c == nil:
		conditions.SetFalse(messagingv1.ChannelReady, messagingv1.ReasonChannelMissing, what+" does not exist.", w.now)
	case w.c.DeletionTimestamp != nil:
		conditions.SetFalse(messagingv1.ChannelReady, eventingv1.ReasonDeleting, what+" is being deleted.", w.now)
	case !w.c.Status.Conditions.Get(eventingv1.TopicReady).IsTrue():
		conditions.SetUnknown(messagingv1.ChannelReady, messagingv1.ReasonChannelNotReady, what+" has no topic yet.", w.now)
	default:
		conditions.SetTrue(messagingv1.ChannelReady, w.now)
	}
}

// references resolves all destinations; of one that cannot be, the last good address stays.
func (w *work) references(ctx context.Context) error {
	p := &w.next.Status.PhysicalSubscription
	var problems []string
	resolve := func(what string, d *duck.Destination) (sink.Address, bool, error) {
		a, err := w.keeper.Sinks.Resolve(ctx, d, w.o.Namespace)
		if a.Unwatched || sink.Unwatched(err) {
			w.lookAgain(topic.LookAgain)
		}
		if err == nil {
			return a, true, nil
		}
		text, unresolved := sink.Message(err)
		if !unresolved {
			return a, false, err
		}
		problems = append(problems, sink.Sentence(what+": "+text))
		return a, false, nil
	}
	if w.o.Spec.Subscriber.Empty() {
		p.SubscriberURI, p.SubscriberCACerts, p.SubscriberAudience = "", nil, nil
	} else if a, ok, err := resolve("Subscriber", w.o.Spec.Subscriber); err != nil {
		return err
	} else if ok {
		p.SubscriberURI, p.SubscriberCACerts, p.SubscriberAudience = a.URL, a.CACerts, a.Audience
	}
	if w.o.Spec.Reply.Empty() {
		p.ReplyURI, p.ReplyCACerts, p.ReplyAudience = "", nil, nil
		topic.Note(&w.next.Status.Status, eventing.ReplyTopicAnnotation, "")
	} else if a, ok, err := resolve("Reply", w.o.Spec.Reply); err != nil {
		return err
	} else if ok {
		p.ReplyURI, p.ReplyCACerts, p.ReplyAudience = a.URL, a.CACerts, a.Audience
		topic.Note(&w.next.Status.Status, eventing.ReplyTopicAnnotation, a.Topic)
	}
	if err := w.deadLetter(resolve); err != nil {
		return err
	}
	conditions := &w.next.Status.Conditions
	if len(problems) > 0 {
		conditions.SetFalse(messagingv1.ReferencesResolved, eventingv1.ReasonNotResolved, strings.Join(problems, " "), w.now)
	} else {
		conditions.SetTrue(messagingv1.ReferencesResolved, w.now)
	}
	return nil
}

// deadLetter resolves the Subscription's own dead-letter sink, and without one takes its Channel's.
func (w *work) deadLetter(resolve func(string, *duck.Destination) (sink.Address, bool, error)) error {
	into := &w.next.Status.PhysicalSubscription.DeliveryStatus
	switch {
	case w.o.Spec.Delivery != nil && !w.o.Spec.Delivery.DeadLetterSink.Empty():
		a, ok, err := resolve("Dead-letter sink", w.o.Spec.Delivery.DeadLetterSink)
		if err != nil {
			return err
		}
		if ok {
			*into = duck.DeliveryStatus{DeadLetterSinkURI: a.URL, DeadLetterSinkCACerts: a.CACerts, DeadLetterSinkAudience: a.Audience}
		}
	case w.c != nil:
		*into = w.c.Status.DeliveryStatus
	default:
		*into = duck.DeliveryStatus{}
	}
	return nil
}

// place keeps the place in the topic.
func (w *work) place(ctx context.Context) error {
	conditions, status := &w.next.Status.Conditions, &w.next.Status.Status
	not := func(why string) {
		conditions.Set(serving.Condition{Type: messagingv1.AddedToChannel, Status: corev1.ConditionUnknown, Reason: eventingv1.ReasonNotReady, Message: why}, w.now)
	}
	if w.c == nil || w.c.DeletionTimestamp != nil {
		topic.Note(status, eventing.TopicAnnotation, "")
		not("There is no Channel to have a place with.")
		return nil
	}
	name := topicOf(w.c)
	if w.c.Status.Annotations[eventing.TopicAnnotation] != name {
		not("The Channel has no topic yet.")
		return nil
	}
	if w.o.Status.Annotations[eventing.TopicAnnotation] != name && !conditions.Get(messagingv1.ReferencesResolved).IsTrue() {
		not("There is no place before " + messagingv1.ReferencesResolved + " is True.")
		return nil
	}
	if err := topic.Hold(ctx, w.Client, w.next); err != nil {
		return err
	}
	err := w.keeper.Engine.PutSubscription(ctx, translate.Place(name, string(w.o.UID), w.o.Annotations, w.keeper.Settings.Load()))
	if err != nil {
		conditions.Set(topic.Refusal(messagingv1.AddedToChannel, fmt.Sprintf("Subscription %s/%s: no place with Channel %s could be made", w.o.Namespace, w.o.Name, w.c.Name), err), w.now)
		w.lookAgain(topic.Again)
		return nil
	}
	topic.Note(status, eventing.TopicAnnotation, name)
	conditions.SetTrue(messagingv1.AddedToChannel, w.now)
	return nil
}
