package translate

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/plan"
)

// Trigger is the subscription of a Trigger, or false while there is none: it or its Broker
// goes, the store keeps no place for it yet, or it has never had an address.
func Trigger(t *eventingv1.Trigger, b *eventingv1.Broker, s *settings.Settings) (plan.Subscription, bool) {
	if b == nil || t.DeletionTimestamp != nil || b.DeletionTimestamp != nil || t.Status.SubscriberURI == "" {
		return plan.Subscription{}, false
	}
	topic := plan.TopicName(plan.Address{Kind: plan.Broker, Namespace: b.Namespace, Name: b.Name}, string(b.UID))
	if t.Status.Annotations[eventing.TopicAnnotation] != topic {
		return plan.Subscription{}, false
	}
	how, _ := Order(t.Annotations, s) // what is wrong with it is in the status
	return plan.Subscription{
		Topic: topic, Name: string(t.UID),
		Owner:      plan.Reference{Kind: eventingv1.KindTrigger, Namespace: t.Namespace, Name: t.Name, UID: string(t.UID)},
		Filter:     Filters(t),
		Subscriber: target(t.Status.SubscriberURI, t.Status.SubscriberCACerts, t.Status.SubscriberAudience),
		ReplyTopic: topic,
		DeadLetter: deadLetter(t.Status.DeliveryStatus),
		Delivery:   Delivery(s, t.Spec.Delivery, b.Spec.Delivery),
		Ordered:    how.Ordered, PartitionKey: how.PartitionKey, Parallelism: how.Parallelism,
	}, true
}

// Subscription is the subscription of a Subscription, or false while there is none, as of Trigger.
func Subscription(o *messagingv1.Subscription, c *messagingv1.Channel, s *settings.Settings) (plan.Subscription, bool) {
	if c == nil || o.DeletionTimestamp != nil || c.DeletionTimestamp != nil {
		return plan.Subscription{}, false
	}
	topic := plan.TopicName(plan.Address{Kind: plan.Channel, Namespace: c.Namespace, Name: c.Name}, string(c.UID))
	if o.Status.Annotations[eventing.TopicAnnotation] != topic {
		return plan.Subscription{}, false
	}
	how, _ := Order(o.Annotations, s)
	p := o.Status.PhysicalSubscription
	out := plan.Subscription{
		Topic: topic, Name: string(o.UID),
		Owner:      plan.Reference{Kind: messagingv1.KindSubscription, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)},
		Subscriber: target(p.SubscriberURI, p.SubscriberCACerts, p.SubscriberAudience),
		ReplyTopic: o.Status.Annotations[eventing.ReplyTopicAnnotation],
		Reply:      target(p.ReplyURI, p.ReplyCACerts, p.ReplyAudience),
		DeadLetter: deadLetter(p.DeliveryStatus),
		Delivery:   Delivery(s, o.Spec.Delivery, c.Spec.Delivery),
		Ordered:    how.Ordered, PartitionKey: how.PartitionKey, Parallelism: how.Parallelism,
	}
	if o.Spec.Subscriber.Empty() {
		// Without a subscriber the events themselves go where replies would.
		out.Subscriber, out.Reply, out.ReplyTopic = out.Reply, plan.Target{}, ""
	}
	if out.ReplyTopic != "" {
		out.Reply = plan.Target{}
	}
	return out, out.Subscriber.URL != ""
}

func target(url string, caCerts, audience *string) plan.Target {
	if url == "" {
		return plan.Target{}
	}
	t := plan.Target{URL: url}
	if caCerts != nil {
		t.CACerts = *caCerts
	}
	if audience != nil {
		t.Audience = *audience
	}
	return t
}

func deadLetter(s duck.DeliveryStatus) plan.Target {
	return target(s.DeadLetterSinkURI, s.DeadLetterSinkCACerts, s.DeadLetterSinkAudience)
}

// Ordering is what the annotations of a Trigger or a Subscription say.
type Ordering struct {
	Ordered      bool
	PartitionKey string
	Parallelism  int
}

// Order reads the annotations; where one is wrong its default holds, and the error says so.
func Order(annotations map[string]string, s *settings.Settings) (Ordering, error) {
	how := Ordering{PartitionKey: eventing.PartitionKey, Parallelism: int(s.Eventing.Parallelism)}
	if errs := eventingv1.ValidateDeliveryAnnotations(annotations); len(errs) > 0 {
		return how, fmt.Errorf("annotations: %w", errs.ToAggregate())
	}
	order, ok := annotations[eventing.DeliveryOrderAnnotation]
	if !ok {
		order = annotations[eventing.KafkaDeliveryOrderAnnotation]
	}
	how.Ordered = order == eventing.Ordered
	if key, ok := annotations[eventing.PartitionKeyAnnotation]; ok {
		how.PartitionKey = key
	}
	if n, err := strconv.Atoi(annotations[eventing.ParallelismAnnotation]); err == nil {
		how.Parallelism = n
	}
	return how, nil
}

// minInFlight is room for events that wait to be tried again beside those that are being delivered.
const minInFlight = 1000

// Place is what the engine keeps for a Trigger or a Subscription.
func Place(topic, uid string, annotations map[string]string, s *settings.Settings) engine.Subscription {
	how, _ := Order(annotations, s)
	return engine.Subscription{
		Topic: topic, Name: uid, Ordered: how.Ordered,
		AckWait: s.Eventing.AckWait, MaxInFlight: max(minInFlight, 10*how.Parallelism),
	}
}

// Delivery is what the first of the specs says that says something, field by field, and else the settings.
func Delivery(s *settings.Settings, specs ...*duck.DeliverySpec) plan.Delivery {
	d := s.Eventing.Delivery
	out := plan.Delivery{
		Retry: int(d.Retry), Backoff: plan.Backoff(d.BackoffPolicy), Delay: d.BackoffDelay, Timeout: d.Timeout, RetryAfterMax: d.RetryAfterMax,
	}
	for _, spec := range slices.Backward(specs) {
		if spec == nil {
			continue
		}
		if spec.Retry != nil && *spec.Retry >= 0 {
			out.Retry = int(*spec.Retry)
		}
		if p := spec.BackoffPolicy; p != nil && (*p == duck.BackoffLinear || *p == duck.BackoffExponential) {
			out.Backoff = plan.Backoff(*p)
		}
		if spec.Format != nil {
			out.Structured = *spec.Format == duck.FormatJSON
		}
		period(spec.BackoffDelay, 0, &out.Delay)
		period(spec.Timeout, 1, &out.Timeout)
		period(spec.RetryAfterMax, 0, &out.RetryAfterMax)
	}
	return out
}

func period(text *string, least time.Duration, into *time.Duration) {
	if text == nil {
		return
	}
	if d, err := duck.ParseDuration(*text); err == nil && d >= least {
		*into = min(d, duck.MaxDuration)
	}
}

// Filters are those of a Trigger: filters, or else filter's attributes. A filter without any
// dialect holds always; one with an empty dialect is given on as it is, and does not compile.
func Filters(t *eventingv1.Trigger) []plan.Filter {
	if len(t.Spec.Filters) > 0 {
		return filters(slices.DeleteFunc(slices.Clone(t.Spec.Filters), func(f duck.SubscriptionsAPIFilter) bool {
			return reflect.DeepEqual(f, duck.SubscriptionsAPIFilter{})
		}))
	}
	if t.Spec.Filter == nil || len(t.Spec.Filter.Attributes) == 0 {
		return nil
	}
	return []plan.Filter{{Exact: matches(t.Spec.Filter.Attributes)}}
}

// FiltersOf are filters as the plan has them.
func FiltersOf(in []duck.SubscriptionsAPIFilter) []plan.Filter { return filters(in) }

func filters(in []duck.SubscriptionsAPIFilter) []plan.Filter {
	var out []plan.Filter
	for i := range in {
		f := &in[i]
		one := plan.Filter{
			Exact: matches(f.Exact), Prefix: matches(f.Prefix), Suffix: matches(f.Suffix),
			All: filters(f.All), Any: filters(f.Any), CESQL: f.CESQL,
		}
		if f.Not != nil {
			one.Not = &filters([]duck.SubscriptionsAPIFilter{*f.Not})[0]
		}
		out = append(out, one)
	}
	return out
}

func matches(values map[string]string) []plan.Match {
	var out []plan.Match
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, plan.Match{Attribute: name, Value: values[name]})
	}
	return out
}
