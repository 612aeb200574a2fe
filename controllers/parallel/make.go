package parallel

import (
	"strconv"
	"time"

	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/controllers/flow"
)

func ingress(o *flowsv1.Parallel) string       { return flow.Name(o.Name, "parallel") }
func branch(o *flowsv1.Parallel, i int) string { return flow.Name(o.Name, "parallel-"+strconv.Itoa(i)) }
func filterOf(o *flowsv1.Parallel, i int) string {
	return flow.Name(o.Name, "parallel-filter-"+strconv.Itoa(i))
}

// parts are the Channel at the ingress, and what each branch needs.
func parts(o *flowsv1.Parallel) (channels []*flow.Part[*messagingv1.Channel], subscriptions []*flow.Part[*messagingv1.Subscription]) {
	kind := flowsv1.GroupVersion.WithKind(flowsv1.KindParallel)
	channels = append(channels, flow.Channel(o, kind, ingress(o)))
	for i := range o.Spec.Branches {
		b, from := &o.Spec.Branches[i], ingress(o)
		if b.Filter != nil {
			channels = append(channels, flow.Channel(o, kind, branch(o, i)))
			subscriptions = append(subscriptions, flow.Subscription(o, kind, filterOf(o, i), from, b.Filter, flow.To(o.Namespace, branch(o, i)), nil))
			from = branch(o, i)
		}
		reply := b.Reply
		if reply == nil {
			reply = o.Spec.Reply
		}
		subscriptions = append(subscriptions, flow.Subscription(o, kind, branch(o, i), from, &b.Subscriber, reply, b.Delivery))
	}
	return channels, subscriptions
}

func status(o *flowsv1.Parallel, channels []*flow.Part[*messagingv1.Channel], subscriptions []*flow.Part[*messagingv1.Subscription], now time.Time) {
	s := &o.Status
	s.ObservedGeneration = o.Generation
	channel, subscription := map[string]flowsv1.ChannelStatus{}, map[string]flowsv1.SubscriptionStatus{}
	var allChannels []flowsv1.ChannelStatus
	var allSubscriptions []flowsv1.SubscriptionStatus
	for _, p := range channels {
		one := flow.ChannelStatus(p)
		channel[p.Want.Name], allChannels = one, append(allChannels, one)
	}
	for _, p := range subscriptions {
		one := flow.SubscriptionStatus(p)
		subscription[p.Want.Name], allSubscriptions = one, append(allSubscriptions, one)
	}
	s.IngressChannelStatus, s.BranchStatuses = new(channel[ingress(o)]), nil
	for i := range o.Spec.Branches {
		one := flowsv1.ParallelBranchStatus{SubscriptionStatus: new(subscription[branch(o, i)])}
		if o.Spec.Branches[i].Filter != nil {
			one.FilterChannelStatus, one.FilterSubscriptionStatus = new(channel[branch(o, i)]), new(subscription[filterOf(o, i)])
		}
		s.BranchStatuses = append(s.BranchStatuses, one)
	}
	flow.Sum(&s.Conditions, allChannels, allSubscriptions, now)
	flow.Address(&s.AddressStatus, &s.Conditions, channels[0], now)
	s.Conditions.Aggregate(flowsv1.Dependents(), now)
}
