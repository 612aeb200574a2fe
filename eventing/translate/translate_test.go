package translate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/eventing/plan"
)

func TestFilters(t *testing.T) {
	for name, of := range map[string]struct {
		spec eventingv1.TriggerSpec
		want []plan.Filter
	}{
		"none":                   {},
		"attributes without any": {spec: eventingv1.TriggerSpec{Filter: &eventingv1.TriggerFilter{}}},
		"attributes, one of any value": {
			spec: eventingv1.TriggerSpec{Filter: &eventingv1.TriggerFilter{Attributes: map[string]string{"type": "a", "subject": ""}}},
			want: []plan.Filter{{Exact: []plan.Match{{Attribute: "subject"}, {Attribute: "type", Value: "a"}}}},
		},
		"filters win": {
			spec: eventingv1.TriggerSpec{Filter: &eventingv1.TriggerFilter{Attributes: map[string]string{"type": "a"}}, Filters: []duck.SubscriptionsAPIFilter{{CESQL: "true"}}},
			want: []plan.Filter{{CESQL: "true"}},
		},
		"nested": {
			spec: eventingv1.TriggerSpec{Filters: []duck.SubscriptionsAPIFilter{{Any: []duck.SubscriptionsAPIFilter{
				{Prefix: map[string]string{"type": "a."}}, {Not: &duck.SubscriptionsAPIFilter{Suffix: map[string]string{"type": ".b"}}},
			}}}},
			want: []plan.Filter{{Any: []plan.Filter{
				{Prefix: []plan.Match{{Attribute: "type", Value: "a."}}}, {Not: &plan.Filter{Suffix: []plan.Match{{Attribute: "type", Value: ".b"}}}},
			}}},
		},
		"one that says nothing holds always": {
			spec: eventingv1.TriggerSpec{Filters: []duck.SubscriptionsAPIFilter{{}, {Exact: map[string]string{"type": "a"}}}},
			want: []plan.Filter{{Exact: []plan.Match{{Attribute: "type", Value: "a"}}}},
		},
		"an empty dialect is kept, and does not compile": {
			spec: eventingv1.TriggerSpec{Filters: []duck.SubscriptionsAPIFilter{{Exact: map[string]string{}}}},
			want: []plan.Filter{{}},
		},
	} {
		if diff := cmp.Diff(of.want, Filters(&eventingv1.Trigger{Spec: of.spec})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDelivery(t *testing.T) {
	s := settings.Default()
	def := plan.Delivery{Retry: 10, Backoff: plan.Exponential, Delay: 200 * time.Millisecond, Timeout: 6 * time.Minute, RetryAfterMax: 5 * time.Minute}
	own := &duck.DeliverySpec{Retry: new(int32(0)), RetryAfterMax: new("PT0S")}
	broker := &duck.DeliverySpec{Retry: new(int32(3)), BackoffPolicy: new("linear"), Timeout: new("PT1M"), Format: new("json")}
	bad := &duck.DeliverySpec{Retry: new(int32(-1)), BackoffPolicy: new("random"), BackoffDelay: new("2s"), Timeout: new("PT0S")}
	for name, of := range map[string]struct {
		specs []*duck.DeliverySpec
		want  plan.Delivery
	}{
		"nothing is said":         {[]*duck.DeliverySpec{nil, nil}, def},
		"field by field":          {[]*duck.DeliverySpec{own, broker}, plan.Delivery{Backoff: plan.Linear, Delay: def.Delay, Timeout: time.Minute, Structured: true}},
		"what is bad is left out": {[]*duck.DeliverySpec{bad, nil}, def},
	} {
		if got := Delivery(s, of.specs...); got != of.want {
			t.Errorf("%s: %+v, want %+v", name, got, of.want)
		}
	}
}

func TestOrder(t *testing.T) {
	s := settings.Default()
	for name, of := range map[string]struct {
		annotations map[string]string
		want        Ordering
		bad         bool
	}{
		"nothing is said": {want: Ordering{PartitionKey: "partitionkey", Parallelism: 100}},
		"all is said": {annotations: map[string]string{eventing.DeliveryOrderAnnotation: "ordered", eventing.PartitionKeyAnnotation: "customer", eventing.ParallelismAnnotation: "7"},
			want: Ordering{Ordered: true, PartitionKey: "customer", Parallelism: 7}},
		"as the Kafka broker has it": {annotations: map[string]string{eventing.KafkaDeliveryOrderAnnotation: "ordered"}, want: Ordering{Ordered: true, PartitionKey: "partitionkey", Parallelism: 100}},
		"ours wins":                  {annotations: map[string]string{eventing.KafkaDeliveryOrderAnnotation: "ordered", eventing.DeliveryOrderAnnotation: "unordered"}, want: Ordering{PartitionKey: "partitionkey", Parallelism: 100}},
		"bad":                        {annotations: map[string]string{eventing.DeliveryOrderAnnotation: "ordered", eventing.ParallelismAnnotation: "many"}, want: Ordering{PartitionKey: "partitionkey", Parallelism: 100}, bad: true},
	} {
		got, err := Order(of.annotations, s)
		if got != of.want || (err != nil) != of.bad {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, of.want)
		}
	}
}

// TestTriggerIsServed: only what the store has a place for, and from its status alone.
func TestTriggerIsServed(t *testing.T) {
	s := settings.Default()
	b := &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "main", UID: "0123456789"}}
	served := func(change func(*eventingv1.Trigger)) (plan.Subscription, bool) {
		o := &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", UID: "u"}, Spec: eventingv1.TriggerSpec{Broker: "main"}}
		o.Status.SubscriberURI = "http://a/"
		o.Status.Annotations = map[string]string{eventing.TopicAnnotation: "b.default.main.01234567"}
		change(o)
		return Trigger(o, b, s)
	}
	if got, ok := served(func(*eventingv1.Trigger) {}); !ok || got.Topic != "b.default.main.01234567" || got.Name != "u" || got.ReplyTopic != got.Topic {
		t.Errorf("a ready trigger: %+v, %v", got, ok)
	}
	for name, change := range map[string]func(*eventingv1.Trigger){
		"no address": func(o *eventingv1.Trigger) { o.Status.SubscriberURI = "" },
		"no place":   func(o *eventingv1.Trigger) { o.Status.Annotations = nil },
		"a place of an old topic": func(o *eventingv1.Trigger) {
			o.Status.Annotations[eventing.TopicAnnotation] = "b.default.main.aaaaaaaa"
		},
		"it goes": func(o *eventingv1.Trigger) { o.DeletionTimestamp = new(metav1.Now()) },
	} {
		if got, ok := served(change); ok {
			t.Errorf("%s: served as %+v", name, got)
		}
	}
}
