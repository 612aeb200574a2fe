package sequence

import (
	"strconv"
	"time"

	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/controllers/flow"
)

// parts are a Channel and a Subscription for each step.
func parts(o *flowsv1.Sequence) (channels []*flow.Part[*messagingv1.Channel], subscriptions []*flow.Part[*messagingv1.Subscription]) {
	kind := flowsv1.GroupVersion.WithKind(flowsv1.KindSequence)
	name := func(i int) string { return flow.Name(o.Name, "sequence-"+strconv.Itoa(i)) }
	for i := range o.Spec.Steps {
		step := &o.Spec.Steps[i]
		reply := o.Spec.Reply
		if i+1 < len(o.Spec.Steps) {
			reply = flow.To(o.Namespace, name(i+1))
		}
		channels = append(channels, flow.Channel(o, kind, name(i)))
		subscriptions = append(subscriptions, flow.Subscription(o, kind, name(i), name(i), &step.Destination, reply, step.Delivery))
	}
	return channels, subscriptions
}

func status(o *flowsv1.Sequence, channels []*flow.Part[*messagingv1.Channel], subscriptions []*flow.Part[*messagingv1.Subscription], now time.Time) {
	s := &o.Status
	s.ObservedGeneration = o.Generation
	s.ChannelStatuses, s.SubscriptionStatuses = nil, nil
	for i := range channels {
		s.ChannelStatuses = append(s.ChannelStatuses, flow.ChannelStatus(channels[i]))
		s.SubscriptionStatuses = append(s.SubscriptionStatuses, flow.SubscriptionStatus(subscriptions[i]))
	}
	flow.Sum(&s.Conditions, s.ChannelStatuses, s.SubscriptionStatuses, now)
	if len(channels) > 0 {
		flow.Address(&s.AddressStatus, &s.Conditions, channels[0], now)
	}
	s.Conditions.Aggregate(flowsv1.Dependents(), now)
}
