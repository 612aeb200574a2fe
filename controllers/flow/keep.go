package flow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/controllers/apply"
)

// OwnerLabel is on what was made for a Sequence or a Parallel; its value is that one's UID.
const OwnerLabel = "ebb.dev/flow"

// Keeper keeps the parts of flows.
type Keeper struct {
	Client  client.Client
	Live    client.Reader
	Manager string
}

// Part is a Channel or a Subscription: as it is wanted, and as it was seen. Seen may be nil.
type Part[T client.Object] struct{ Want, Seen T }

// Channel makes a Channel for an owner.
func Channel(owner client.Object, kind schema.GroupVersionKind, name string) *Part[*messagingv1.Channel] {
	return &Part[*messagingv1.Channel]{Want: &messagingv1.Channel{ObjectMeta: meta(owner, kind, name)}}
}

// Subscription makes a Subscription for an owner.
func Subscription(owner client.Object, kind schema.GroupVersionKind, name, channel string, subscriber, reply *duck.Destination, delivery *duck.DeliverySpec) *Part[*messagingv1.Subscription] {
	return &Part[*messagingv1.Subscription]{Want: &messagingv1.Subscription{ObjectMeta: meta(owner, kind, name), Spec: messagingv1.SubscriptionSpec{
		Channel:    duck.KReference{APIVersion: messagingv1.GroupVersion.String(), Kind: messagingv1.KindChannel, Namespace: owner.GetNamespace(), Name: channel},
		Subscriber: subscriber.DeepCopy(), Reply: reply.DeepCopy(), Delivery: delivery.DeepCopy(),
	}}}
}

// To is a Channel as a destination.
func To(namespace, channel string) *duck.Destination {
	return &duck.Destination{Ref: &duck.KReference{APIVersion: messagingv1.GroupVersion.String(), Kind: messagingv1.KindChannel, Namespace: namespace, Name: channel}}
}

func meta(owner client.Object, kind schema.GroupVersionKind, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: owner.GetNamespace(), Name: name, Labels: map[string]string{OwnerLabel: string(owner.GetUID())},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)},
	}
}

// maxName bounds the names of parts, which are parts of host names elsewhere.
const maxName = 63

// Name is the name of a part: the owner's and what it is; of one that is too long the end is a hash.
func Name(owner, what string) string {
	name := owner + "-kn-" + what
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxName-17] + "-" + hex.EncodeToString(sum[:8])
}

// Keep applies the parts, fills in what was seen of them, and deletes what was made for the owner and is not
// among them. The error is one to try again after.
func (k *Keeper) Keep(ctx context.Context, owner client.Object, channels []*Part[*messagingv1.Channel], subscriptions []*Part[*messagingv1.Subscription]) error {
	var errs []error
	wanted := map[string]bool{}
	for _, p := range channels {
		wanted["Channel/"+p.Want.Name] = true
		seen := &messagingv1.Channel{}
		ok, err := keep(ctx, k, owner, p.Want, seen)
		if ok {
			p.Seen = seen
		}
		errs = append(errs, err)
	}
	for _, p := range subscriptions {
		wanted["Subscription/"+p.Want.Name] = true
		seen := &messagingv1.Subscription{}
		ok, err := keep(ctx, k, owner, p.Want, seen)
		if ok {
			p.Seen = seen
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, k.prune(ctx, owner, wanted))...)
}

func keep(ctx context.Context, k *Keeper, owner, want, seen client.Object) (bool, error) {
	place, err := apply.Read(ctx, k.Client, k.Live, client.ObjectKeyFromObject(want), seen)
	if err != nil {
		return false, err
	}
	if place != apply.Nowhere && !metav1.IsControlledBy(seen, owner) {
		return false, fmt.Errorf("%T %s/%s belongs to another: delete it, or give the %T another name", want, want.GetNamespace(), want.GetName(), owner)
	}
	var before client.Object
	if place != apply.Nowhere {
		before = seen
	}
	if _, err := apply.Object(ctx, k.Client, k.Manager, want, before); err != nil {
		return false, err
	}
	return place != apply.Nowhere, nil
}

func (k *Keeper) prune(ctx context.Context, owner client.Object, wanted map[string]bool) error {
	var errs []error
	of := []client.ListOption{client.InNamespace(owner.GetNamespace()), client.MatchingLabels{OwnerLabel: string(owner.GetUID())}}
	remove := func(kind string, o client.Object) {
		if !wanted[kind+"/"+o.GetName()] && o.GetDeletionTimestamp() == nil && metav1.IsControlledBy(o, owner) {
			errs = append(errs, client.IgnoreNotFound(k.Client.Delete(ctx, o, client.Preconditions{UID: new(o.GetUID())})))
		}
	}
	subscriptions := &messagingv1.SubscriptionList{}
	if err := k.Client.List(ctx, subscriptions, of...); err != nil {
		return err
	}
	for i := range subscriptions.Items {
		remove("Subscription", &subscriptions.Items[i])
	}
	channels := &messagingv1.ChannelList{}
	if err := k.Client.List(ctx, channels, of...); err != nil {
		return err
	}
	for i := range channels.Items {
		remove("Channel", &channels.Items[i])
	}
	return errors.Join(errs...)
}

// ChannelStatus is how a Channel is.
func ChannelStatus(p *Part[*messagingv1.Channel]) flowsv1.ChannelStatus {
	s := flowsv1.ChannelStatus{Channel: corev1.ObjectReference{
		APIVersion: messagingv1.GroupVersion.String(), Kind: messagingv1.KindChannel, Namespace: p.Want.Namespace, Name: p.Want.Name,
	}, ReadyCondition: unknown()}
	if p.Seen != nil {
		s.ReadyCondition = ready(p.Seen.Status.Conditions)
	}
	return s
}

// SubscriptionStatus is how a Subscription is.
func SubscriptionStatus(p *Part[*messagingv1.Subscription]) flowsv1.SubscriptionStatus {
	s := flowsv1.SubscriptionStatus{Subscription: corev1.ObjectReference{
		APIVersion: messagingv1.GroupVersion.String(), Kind: messagingv1.KindSubscription, Namespace: p.Want.Namespace, Name: p.Want.Name,
	}, ReadyCondition: unknown()}
	if p.Seen != nil && p.Seen.Status.ObservedGeneration == p.Seen.Generation {
		s.ReadyCondition = ready(p.Seen.Status.Conditions)
	}
	return s
}

func unknown() serving.Condition {
	return serving.Condition{Type: serving.ConditionReady, Status: corev1.ConditionUnknown}
}

func ready(c serving.Conditions) serving.Condition {
	if have := c.Get(serving.ConditionReady); have != nil {
		return *have
	}
	return unknown()
}

// Sum sets both conditions of a flow from those of its parts: the first that is not Ready says why.
func Sum(c *serving.Conditions, channels []flowsv1.ChannelStatus, subscriptions []flowsv1.SubscriptionStatus, now time.Time) {
	set := func(kind string, n int, of func(int) (string, serving.Condition)) {
		sum := serving.Condition{Type: kind, Status: corev1.ConditionTrue}
		for i := range n {
			what, one := of(i)
			if one.IsTrue() || sum.Status == corev1.ConditionFalse || sum.Status == corev1.ConditionUnknown && !one.IsFalse() {
				continue
			}
			sum.Status, sum.Reason, sum.Message = one.Status, one.Reason, what+" is not ready yet."
			if one.Message != "" {
				sum.Message = what + ": " + one.Message
			}
			if sum.Reason == "" {
				sum.Reason = eventingv1.ReasonNotReady
			}
		}
		c.Set(sum, now)
	}
	set(flowsv1.ChannelsReady, len(channels), func(i int) (string, serving.Condition) {
		return "Channel " + channels[i].Channel.Name, channels[i].ReadyCondition
	})
	set(flowsv1.SubscriptionsReady, len(subscriptions), func(i int) (string, serving.Condition) {
		return "Subscription " + subscriptions[i].Subscription.Name, subscriptions[i].ReadyCondition
	})
}

// Address gives a flow the address of its first Channel.
func Address(a *duck.AddressStatus, c *serving.Conditions, first *Part[*messagingv1.Channel], now time.Time) {
	if first.Seen == nil || first.Seen.Status.Address == nil {
		c.SetUnknown(flowsv1.Addressable, eventingv1.ReasonNotReady, "Channel "+first.Want.Name+" has no address yet.", now)
		return
	}
	*a = *first.Seen.Status.AddressStatus.DeepCopy()
	c.SetTrue(flowsv1.Addressable, now)
}
