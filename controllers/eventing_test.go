package controllers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	eventingv1beta2 "ebb.dev/ebb/apis/eventing/v1beta2"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/plan"
)

// TestEventing runs the controllers of eventing on a real API server. Every case has a namespace of its own.
func TestEventing(t *testing.T) {
	p := startEventing(t, nil)
	for name, test := range map[string]func(*testing.T, *eventingPlatform, string){
		"a broker and a trigger":                             brokerAndTrigger,
		"a trigger before its broker":                        triggerFirst,
		"a subscriber that comes late, and goes":             subscriberComesAndGoes,
		"a filter that does not compile":                     filterDoesNotCompile,
		"what is changed keeps the place":                    changesKeepThePlace,
		"a broker deleted with its triggers left":            brokerDeleted,
		"a broker made again":                                brokerMadeAgain,
		"dead letters":                                       deadLetters,
		"delivery, field by field":                           deliveryByField,
		"a broker of another class":                          anotherClass,
		"a dependency":                                       dependency,
		"kinds of subscribers":                               kindsOfSubscribers,
		"a channel and a subscription":                       channelAndSubscription,
		"a subscription without a subscriber":                onlyReply,
		"a ping source, to a broker":                         pingToBroker,
		"a ping source, to a URI":                            pingToURI,
		"an api server source":                               apiServerSource,
		"a container source":                                 containerSource,
		"a sink binding":                                     sinkBinding,
		"a sequence":                                         sequenceOfSteps,
		"a parallel":                                         parallelBranches,
		"event types are written down":                       eventTypes,
		"a settled broker and trigger while nothing changes": settledIsQuiet,
	} {
		t.Run(name, func(t *testing.T) { test(t, p, p.namespace(t)) })
	}
	// These change what all have in common, so they come last, one after the other.
	t.Run("a store that cannot be reached", func(t *testing.T) { storeGone(t, p, p.namespace(t)) })
	t.Run("settings", func(t *testing.T) { eventingSettings(t, p, p.namespace(t)) })
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func toURI(uri string) duck.Destination { return duck.Destination{URI: uri} }

func toRef(apiVersion, kind, name string) duck.Destination {
	return duck.Destination{Ref: &duck.KReference{APIVersion: apiVersion, Kind: kind, Name: name}}
}

func (p *eventingPlatform) broker(t *testing.T, namespace string, change ...func(*eventingv1.Broker)) *eventingv1.Broker {
	t.Helper()
	b := &eventingv1.Broker{ObjectMeta: meta(namespace, "main")}
	for _, c := range change {
		c(b)
	}
	p.create(t, b)
	return b
}

func (p *eventingPlatform) trigger(t *testing.T, namespace string, change ...func(*eventingv1.Trigger)) *eventingv1.Trigger {
	t.Helper()
	o := &eventingv1.Trigger{ObjectMeta: meta(namespace, "one"), Spec: eventingv1.TriggerSpec{Broker: "main", Subscriber: toURI("http://example.com/")}}
	for _, c := range change {
		c(o)
	}
	p.create(t, o)
	return o
}

func (p *eventingPlatform) brokerSays(t *testing.T, namespace, condition string, status corev1.ConditionStatus, reason, message string) *eventingv1.Broker {
	t.Helper()
	return eventually(t, p.platform, &eventingv1.Broker{}, namespace, "main", "the broker's "+condition, func(b *eventingv1.Broker) string {
		return says(b.Status.Conditions, condition, status, reason, message)
	})
}

func (p *eventingPlatform) triggerSays(t *testing.T, namespace, condition string, status corev1.ConditionStatus, reason, message string) *eventingv1.Trigger {
	t.Helper()
	return eventually(t, p.platform, &eventingv1.Trigger{}, namespace, "one", "the trigger's "+condition, func(o *eventingv1.Trigger) string {
		return says(o.Status.Conditions, condition, status, reason, message)
	})
}

// served waits until the dispatcher was told of the place what ok likes.
func (p *eventingPlatform) served(t *testing.T, uid any, ok func(plan.Subscription) bool) plan.Subscription {
	t.Helper()
	var s plan.Subscription
	until(t, fmt.Sprintf("the dispatcher serves %v", uid), func() error {
		var there bool
		if s, there = p.told.place(fmt.Sprint(uid)); !there || !ok(s) {
			return fmt.Errorf("it was told %+v, %v", s, there)
		}
		return nil
	})
	return s
}

func (p *eventingPlatform) unserved(t *testing.T, uid any) {
	t.Helper()
	until(t, fmt.Sprintf("the dispatcher does not serve %v", uid), func() error {
		if s, there := p.told.place(fmt.Sprint(uid)); there {
			return fmt.Errorf("it was told %+v", s)
		}
		return nil
	})
}

// empty waits until the store has nothing of a namespace.
func (p *eventingPlatform) empty(t *testing.T, namespace string) {
	t.Helper()
	until(t, "the store has nothing of it", func() error {
		if topics, places := p.books.of(namespace); len(topics)+len(places) > 0 {
			return fmt.Errorf("it has %v and %v", topics, places)
		}
		return nil
	})
}

func (p *eventingPlatform) delete(t *testing.T, o client.Object) {
	t.Helper()
	if err := p.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	until(t, "it is gone", func() error {
		err := p.Get(t.Context(), client.ObjectKeyFromObject(o), o.DeepCopyObject().(client.Object))
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

func brokerAndTrigger(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace, func(o *eventingv1.Trigger) {
		o.Spec.Filter = &eventingv1.TriggerFilter{Attributes: map[string]string{"type": "a", "subject": ""}}
	})
	b := p.brokerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	if want := "http://broker-ingress.ebb-system.svc.cluster.local/" + namespace + "/main"; b.Status.Address == nil || b.Status.Address.URL != want {
		t.Errorf("the address is %+v, want %s", b.Status.Address, want)
	}
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	if o.Status.SubscriberURI != "http://example.com/" || o.Status.ObservedGeneration != o.Generation {
		t.Errorf("the status is %+v", o.Status)
	}
	name := plan.TopicName(plan.Address{Kind: plan.Broker, Namespace: namespace, Name: "main"}, string(b.UID))
	topics, places := p.books.of(namespace)
	if len(topics) != 2 || topics[0].Name != name || topics[1].Name != plan.DeadLetters(name) || !topics[1].KeepAll || topics[0].MaxBytes != 1<<30 {
		t.Errorf("topics %+v", topics)
	}
	if len(places) != 1 || places[0].Name != string(o.UID) || places[0].Topic != name || places[0].Ordered || places[0].MaxInFlight != 1000 {
		t.Errorf("places %+v", places)
	}
	s := p.served(t, o.UID, func(plan.Subscription) bool { return true })
	if s.Topic != name || s.ReplyTopic != name || s.Subscriber.URL != "http://example.com/" || s.Parallelism != 100 || s.PartitionKey != "partitionkey" ||
		len(s.Filter) != 1 || len(s.Filter[0].Exact) != 2 || s.Filter[0].Exact[1] != (plan.Match{Attribute: "type", Value: "a"}) {
		t.Errorf("the dispatcher was told %+v", s)
	}
	until(t, "the ingress takes events", func() error {
		if topic, ok := p.told.topic(plan.Address{Kind: plan.Broker, Namespace: namespace, Name: "main"}); !ok || !topic.Accepts || topic.HopLimit != 255 {
			return fmt.Errorf("it was told %+v, %v", topic, ok)
		}
		return nil
	})
	p.delete(t, o)
	p.unserved(t, o.UID)
	if _, places := p.books.of(namespace); len(places) != 0 {
		t.Errorf("places after the trigger went: %v", places)
	}
	p.delete(t, b)
	p.empty(t, namespace)
}

func triggerFirst(t *testing.T, p *eventingPlatform, namespace string) {
	p.trigger(t, namespace)
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "BrokerDoesNotExist", "Broker "+namespace+"/main does not exist.")
	if why := says(o.Status.Conditions, "SubscriptionReady", corev1.ConditionUnknown, "NotReady", ""); why != "" {
		t.Error(why)
	}
	p.broker(t, namespace)
	o = p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	p.served(t, o.UID, func(plan.Subscription) bool { return true })
}

func (p *eventingPlatform) serviceAt(t *testing.T, namespace, name, url string) {
	t.Helper()
	s := p.service(namespace, name, "app:v1")
	p.create(t, s)
	update(t, p.platform, &v1.Service{}, namespace, name, func(s *v1.Service) {})
	until(t, "the service has an address", func() error {
		s := &v1.Service{}
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, s); err != nil {
			return err
		}
		s.Status.Address = &v1.Addressable{URL: url}
		return p.Status().Update(t.Context(), s)
	})
}

func subscriberComesAndGoes(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace, func(o *eventingv1.Trigger) {
		o.Spec.Subscriber = toRef("serving.knative.dev/v1", "Service", "hello")
		o.Spec.Subscriber.URI = "/events?a=b"
	})
	p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "NotResolved", "Service "+namespace+"/hello does not exist.")
	if _, places := p.books.of(namespace); len(places) != 0 {
		t.Errorf("there is a place before there is a subscriber: %v", places)
	}
	p.create(t, p.service(namespace, "hello", "app:v1"))
	p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "NotResolved", "Service "+namespace+"/hello has no address yet.")
	until(t, "the service has an address", func() error {
		s := &v1.Service{}
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "hello"}, s); err != nil {
			return err
		}
		s.Status.Address = &v1.Addressable{URL: "http://hello." + namespace + ".svc.cluster.local"}
		return p.Status().Update(t.Context(), s)
	})
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	want := "http://hello." + namespace + ".svc.cluster.local/events?a=b"
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.Subscriber.URL == want })

	p.delete(t, &v1.Service{ObjectMeta: meta(namespace, "hello")})
	o = p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "NotResolved", "its last address "+want+" stays in use")
	if why := says(o.Status.Conditions, "SubscriptionReady", corev1.ConditionTrue, "", ""); why != "" {
		t.Error(why)
	}
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.Subscriber.URL == want })
}

func filterDoesNotCompile(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace, func(o *eventingv1.Trigger) {
		o.Spec.Filters = []duck.SubscriptionsAPIFilter{{CESQL: "no ("}}
	})
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "FilterInvalid", "filters[0].cesql: at character ")
	if _, places := p.books.of(namespace); len(places) != 0 {
		t.Errorf("there is a place for what matches nothing: %v", places)
	}
	update(t, p.platform, o, namespace, "one", func(o *eventingv1.Trigger) { o.Spec.Filters[0].CESQL = "true" })
	o = p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.Filter[0].CESQL == "true" })
	// Once there is a place it stays, and the dispatcher is told the filter that matches nothing.
	update(t, p.platform, o, namespace, "one", func(o *eventingv1.Trigger) { o.Spec.Filters[0].CESQL = "no (" })
	p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "FilterInvalid", "No event matches")
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.Filter[0].CESQL == "no (" })
}

func changesKeepThePlace(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace)
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	key := o.Status.Annotations[eventing.TopicAnnotation] + "/" + string(o.UID)
	update(t, p.platform, o, namespace, "one", func(o *eventingv1.Trigger) {
		o.Spec.Subscriber = toURI("http://other.example.com/")
		o.Spec.Filter = &eventingv1.TriggerFilter{Attributes: map[string]string{"type": "b"}}
		o.Annotations = map[string]string{eventing.DeliveryOrderAnnotation: "ordered", eventing.ParallelismAnnotation: "500", eventing.PartitionKeyAnnotation: "customer"}
	})
	s := p.served(t, o.UID, func(s plan.Subscription) bool { return s.Subscriber.URL == "http://other.example.com/" })
	if !s.Ordered || s.Parallelism != 500 || s.PartitionKey != "customer" || len(s.Filter) != 1 {
		t.Errorf("the dispatcher was told %+v", s)
	}
	until(t, "the place is ordered", func() error {
		if _, places := p.books.of(namespace); len(places) != 1 || !places[0].Ordered || places[0].MaxInFlight != 5000 {
			return fmt.Errorf("places %+v", places)
		}
		return nil
	})
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	if n := p.books.made[key]; n != 1 {
		t.Errorf("the place was made %d times", n)
	}
}

func brokerDeleted(t *testing.T, p *eventingPlatform, namespace string) {
	b := p.broker(t, namespace)
	p.trigger(t, namespace)
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	p.served(t, o.UID, func(plan.Subscription) bool { return true })
	p.delete(t, b)
	p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "BrokerDoesNotExist", "")
	p.unserved(t, o.UID)
	until(t, "the ingress does not know it", func() error {
		if _, ok := p.told.topic(plan.Address{Kind: plan.Broker, Namespace: namespace, Name: "main"}); ok {
			return errors.New("it does")
		}
		return nil
	})
	p.empty(t, namespace)
	p.delete(t, o)
}

func brokerMadeAgain(t *testing.T, p *eventingPlatform, namespace string) {
	b := p.broker(t, namespace)
	p.trigger(t, namespace)
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	old := p.served(t, o.UID, func(plan.Subscription) bool { return true }).Topic
	p.delete(t, b)
	p.broker(t, namespace)
	s := p.served(t, o.UID, func(s plan.Subscription) bool { return s.Topic != old })
	p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	if s.ReplyTopic != s.Topic {
		t.Errorf("replies go to %s, the topic is %s", s.ReplyTopic, s.Topic)
	}
	until(t, "the store has the new topic only", func() error {
		topics, places := p.books.of(namespace)
		if len(topics) != 2 || topics[0].Name != s.Topic || len(places) != 1 || places[0].Topic != s.Topic {
			return fmt.Errorf("it has %v and %v", topics, places)
		}
		return nil
	})
}

func deadLetters(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace, func(b *eventingv1.Broker) {
		d := toRef("serving.knative.dev/v1", "Service", "dead")
		b.Spec.Delivery = &duck.DeliverySpec{DeadLetterSink: &d}
	})
	p.trigger(t, namespace)
	p.brokerSays(t, namespace, "Ready", corev1.ConditionFalse, "DeadLetterSinkNotResolved", "Dead-letter sink: Service "+namespace+"/dead does not exist.")
	p.triggerSays(t, namespace, "DeadLetterSinkResolved", corev1.ConditionFalse, "DeadLetterSinkNotResolved", "Service "+namespace+"/dead")
	p.serviceAt(t, namespace, "dead", "http://dead")
	b := p.brokerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	if b.Status.DeadLetterSinkURI != "http://dead" {
		t.Errorf("the broker's is %q", b.Status.DeadLetterSinkURI)
	}
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.DeadLetter.URL == "http://dead" })
	// The Trigger's own wins.
	update(t, p.platform, o, namespace, "one", func(o *eventingv1.Trigger) {
		d := toURI("http://own")
		o.Spec.Delivery = &duck.DeliverySpec{DeadLetterSink: &d}
	})
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.DeadLetter.URL == "http://own" })
	update(t, p.platform, o, namespace, "one", func(o *eventingv1.Trigger) { o.Spec.Delivery = nil })
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.DeadLetter.URL == "http://dead" })
	update(t, p.platform, b, namespace, "main", func(b *eventingv1.Broker) { b.Spec.Delivery = nil })
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.DeadLetter.URL == "" })
	p.brokerSays(t, namespace, "DeadLetterSinkResolved", corev1.ConditionTrue, "DeadLetterSinkNotConfigured", "")
}

func deliveryByField(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace, func(b *eventingv1.Broker) {
		b.Spec.Delivery = &duck.DeliverySpec{Retry: new(int32(3)), BackoffPolicy: new("linear"), BackoffDelay: new("PT2S")}
	})
	p.trigger(t, namespace, func(o *eventingv1.Trigger) {
		o.Spec.Delivery = &duck.DeliverySpec{Retry: new(int32(0)), Timeout: new("PT5S"), Format: new("json")}
	})
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	s := p.served(t, o.UID, func(plan.Subscription) bool { return true })
	want := plan.Delivery{Retry: 0, Backoff: plan.Linear, Delay: 2 * time.Second, Timeout: 5 * time.Second, RetryAfterMax: 5 * time.Minute, Structured: true}
	if s.Delivery != want {
		t.Errorf("the delivery is %+v, want %+v", s.Delivery, want)
	}
	update(t, p.platform, &eventingv1.Broker{}, namespace, "main", func(b *eventingv1.Broker) { b.Spec.Delivery.BackoffDelay = new("PT3S") })
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.Delivery.Delay == 3*time.Second })
}

func anotherClass(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace, func(b *eventingv1.Broker) {
		b.Annotations = map[string]string{eventing.BrokerClassAnnotation: "SomebodyElses"}
	})
	p.trigger(t, namespace)
	// Something that comes after them is done.
	other := &messagingv1.Channel{ObjectMeta: meta(namespace, "other")}
	p.create(t, other)
	eventually(t, p.platform, other, namespace, "other", "the channel is ready", func(c *messagingv1.Channel) string {
		return says(c.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	b := &eventingv1.Broker{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "main"}, b); err != nil {
		t.Fatal(err)
	}
	if len(b.Status.Conditions) != 0 || len(b.Finalizers) != 0 {
		t.Errorf("another's broker was written to: %+v %v", b.Status, b.Finalizers)
	}
	if _, ok := p.told.topic(plan.Address{Kind: plan.Broker, Namespace: namespace, Name: "main"}); ok {
		t.Error("the ingress serves another's broker")
	}
}

func dependency(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace, func(o *eventingv1.Trigger) {
		o.Annotations = map[string]string{eventing.DependencyAnnotation: `{"apiVersion":"messaging.knative.dev/v1","kind":"Channel","name":"first"}`}
	})
	p.triggerSays(t, namespace, "Ready", corev1.ConditionFalse, "DependencyDoesNotExist", "Channel "+namespace+"/first does not exist.")
	c := &messagingv1.Channel{ObjectMeta: meta(namespace, "first")}
	p.create(t, c)
	eventually(t, p.platform, c, namespace, "first", "the channel is ready", func(c *messagingv1.Channel) string {
		return says(c.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	// Looked at again after a while, or at once when the Trigger changes.
	update(t, p.platform, &eventingv1.Trigger{}, namespace, "one", func(o *eventingv1.Trigger) { o.Labels = map[string]string{"a": "b"} })
	p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
}

func kindsOfSubscribers(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.create(t, &corev1.Service{ObjectMeta: meta(namespace, "plain"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	p.create(t, &messagingv1.Channel{ObjectMeta: meta(namespace, "onward")})
	p.create(t, &corev1.ConfigMap{ObjectMeta: meta(namespace, "plain")})
	for i, of := range []struct {
		subscriber duck.Destination
		want, says string
	}{
		{subscriber: toRef("v1", "Service", "plain"), want: "http://plain." + namespace + ".svc.cluster.local"},
		{subscriber: toRef("messaging.knative.dev/v1", "Channel", "onward"), want: "http://broker-ingress.ebb-system.svc.cluster.local/channels/" + namespace + "/onward"},
		{subscriber: toRef("eventing.knative.dev/v1", "Broker", "main"), want: "http://broker-ingress.ebb-system.svc.cluster.local/" + namespace + "/main"},
		{subscriber: duck.Destination{Ref: &duck.KReference{Group: "messaging.knative.dev", Kind: "Channel", Name: "onward", Address: new("http")}},
			want: "http://broker-ingress.ebb-system.svc.cluster.local/channels/" + namespace + "/onward"},
		{subscriber: duck.Destination{Ref: &duck.KReference{Group: "messaging.knative.dev", Kind: "Channel", Name: "onward", Address: new("https")}}, says: `has no address named "https"`},
		{subscriber: toRef("v1", "Service", "nowhere"), says: "core Service " + namespace + "/nowhere does not exist."},
		{subscriber: toRef("v1", "ConfigMap", "plain"), says: "has no address yet."},
		{subscriber: toRef("example.com/v1", "Thing", "a"), says: `there is no kind Thing in "example.com/v1"`},
		{subscriber: duck.Destination{Ref: &duck.KReference{Group: "example.com", Kind: "Thing", Name: "a"}}, says: `there is no kind Thing in group "example.com"`},
	} {
		name := fmt.Sprintf("s%d", i)
		p.create(t, &eventingv1.Trigger{ObjectMeta: meta(namespace, name), Spec: eventingv1.TriggerSpec{Broker: "main", Subscriber: of.subscriber}})
		eventually(t, p.platform, &eventingv1.Trigger{}, namespace, name, "the subscriber is resolved, or not", func(o *eventingv1.Trigger) string {
			if of.want != "" {
				if o.Status.SubscriberURI != of.want {
					return "the address should be " + of.want
				}
				return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
			}
			return says(o.Status.Conditions, "SubscriberResolved", corev1.ConditionFalse, "NotResolved", of.says)
		})
	}
}

func (p *eventingPlatform) subscription(t *testing.T, namespace string, change func(*messagingv1.Subscription)) *messagingv1.Subscription {
	t.Helper()
	o := &messagingv1.Subscription{ObjectMeta: meta(namespace, "sub"), Spec: messagingv1.SubscriptionSpec{
		Channel: duck.KReference{APIVersion: "messaging.knative.dev/v1", Kind: "Channel", Name: "first"},
	}}
	change(o)
	p.create(t, o)
	return o
}

func (p *eventingPlatform) subscriptionSays(t *testing.T, namespace, condition string, status corev1.ConditionStatus, reason, message string) *messagingv1.Subscription {
	t.Helper()
	return eventually(t, p.platform, &messagingv1.Subscription{}, namespace, "sub", "the subscription's "+condition, func(o *messagingv1.Subscription) string {
		return says(o.Status.Conditions, condition, status, reason, message)
	})
}

func channelAndSubscription(t *testing.T, p *eventingPlatform, namespace string) {
	p.subscription(t, namespace, func(o *messagingv1.Subscription) {
		o.Spec.Subscriber, o.Spec.Reply = new(toURI("http://worker/")), new(toRef("messaging.knative.dev/v1", "Channel", "second"))
	})
	o := p.subscriptionSays(t, namespace, "ChannelReady", corev1.ConditionFalse, "ChannelDoesNotExist", "Channel "+namespace+"/first does not exist.")
	if why := says(o.Status.Conditions, "Ready", corev1.ConditionFalse, "NotResolved", "Reply: Channel "+namespace+"/second does not exist."); why != "" {
		t.Error(why)
	}
	first, second := &messagingv1.Channel{ObjectMeta: meta(namespace, "first")}, &messagingv1.Channel{ObjectMeta: meta(namespace, "second")}
	p.create(t, first)
	p.create(t, second)
	o = p.subscriptionSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	topic := func(c *messagingv1.Channel) string {
		return plan.TopicName(plan.Address{Kind: plan.Channel, Namespace: namespace, Name: c.Name}, string(c.UID))
	}
	s := p.served(t, o.UID, func(plan.Subscription) bool { return true })
	if s.Topic != topic(first) || s.ReplyTopic != topic(second) || s.Reply.URL != "" || s.Subscriber.URL != "http://worker/" || s.Owner.Kind != "Subscription" {
		t.Errorf("the dispatcher was told %+v", s)
	}
	p.delete(t, o)
	p.unserved(t, o.UID)
	p.delete(t, first)
	p.delete(t, second)
	p.empty(t, namespace)
}

func onlyReply(t *testing.T, p *eventingPlatform, namespace string) {
	p.create(t, &messagingv1.Channel{ObjectMeta: meta(namespace, "first")})
	p.subscription(t, namespace, func(o *messagingv1.Subscription) { o.Spec.Reply = new(toURI("http://onward/")) })
	o := p.subscriptionSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	s := p.served(t, o.UID, func(plan.Subscription) bool { return true })
	if s.Subscriber.URL != "http://onward/" || s.Reply.URL != "" || s.ReplyTopic != "" {
		t.Errorf("the dispatcher was told %+v", s)
	}
}

func settledIsQuiet(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace)
	b := p.brokerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	// Both are looked at again, and so is another that comes after them.
	for _, change := range []client.Object{b, o} {
		change.SetLabels(map[string]string{"looked": "at"})
		if err := p.Update(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	p.create(t, &eventingv1.Trigger{ObjectMeta: meta(namespace, "two"), Spec: eventingv1.TriggerSpec{Broker: "main", Subscriber: toURI("http://a/")}})
	eventually(t, p.platform, &eventingv1.Trigger{}, namespace, "two", "the other trigger is ready", func(o *eventingv1.Trigger) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	for _, was := range []client.Object{b, o} {
		is := was.DeepCopyObject().(client.Object)
		if err := p.Get(t.Context(), client.ObjectKeyFromObject(was), is); err != nil {
			t.Fatal(err)
		}
		if is.GetResourceVersion() != was.GetResourceVersion() {
			t.Errorf("%T was written to: %s, then %s", was, was.GetResourceVersion(), is.GetResourceVersion())
		}
	}
}

func storeGone(t *testing.T, p *eventingPlatform, namespace string) {
	p.books.refuse(fmt.Errorf("nats://nats:4222: %w", engine.ErrUnavailable))
	t.Cleanup(func() { p.books.refuse(nil) })
	b := p.broker(t, namespace)
	o := p.trigger(t, namespace)
	p.brokerSays(t, namespace, "Ready", corev1.ConditionUnknown, "StoreUnavailable", "Broker "+namespace+"/main: its topic could not be made: nats://nats:4222")
	p.triggerSays(t, namespace, "Ready", corev1.ConditionUnknown, "BrokerNotReady", "its topic could not be made")
	until(t, "the ingress says why", func() error {
		topic, ok := p.told.topic(plan.Address{Kind: plan.Broker, Namespace: namespace, Name: "main"})
		if !ok || topic.Accepts || !strings.Contains(topic.Why, "could not be made") {
			return fmt.Errorf("it was told %+v", topic)
		}
		return nil
	})
	p.books.refuse(nil)
	p.brokerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")

	// Nothing goes before its topic has.
	p.books.refuse(engine.ErrUnavailable)
	for _, one := range []client.Object{b, o} {
		if err := p.Delete(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []client.Object{b, o} {
		if err := p.Get(t.Context(), client.ObjectKeyFromObject(one), one); err != nil || one.GetDeletionTimestamp() == nil {
			t.Errorf("%T before its topic has gone: %v, deleted at %v", one, err, one.GetDeletionTimestamp())
		}
	}
	p.books.refuse(nil)
	for _, one := range []client.Object{b, o} {
		until(t, "it is gone", func() error {
			err := p.Get(t.Context(), client.ObjectKeyFromObject(one), one)
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there: %w", err)
			}
			return nil
		})
	}
	p.empty(t, namespace)
}

func eventingSettings(t *testing.T, p *eventingPlatform, namespace string) {
	p.broker(t, namespace)
	p.trigger(t, namespace)
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	p.create(t, &corev1.ConfigMap{ObjectMeta: meta("ebb-system", settings.ConfigEventing), Data: map[string]string{"max-bytes": "2Gi", "parallelism": "7", "delivery-retry": "2", "ack-wait": "20s"}})
	s := p.served(t, o.UID, func(s plan.Subscription) bool { return s.Parallelism == 7 })
	if s.Delivery.Retry != 2 {
		t.Errorf("the dispatcher was told %+v", s)
	}
	until(t, "the store is told", func() error {
		topics, places := p.books.of(namespace)
		if len(topics) != 2 || topics[0].MaxBytes != 2<<30 || len(places) != 1 || places[0].AckWait != 20*time.Second {
			return fmt.Errorf("it has %+v and %+v", topics, places)
		}
		return nil
	})
}

func sequenceOfSteps(t *testing.T, p *eventingPlatform, namespace string) {
	o := &flowsv1.Sequence{ObjectMeta: meta(namespace, "flow"), Spec: flowsv1.SequenceSpec{
		Steps: []flowsv1.SequenceStep{
			{Destination: toURI("http://first/"), Delivery: &duck.DeliverySpec{Retry: new(int32(1))}},
			{Destination: toURI("http://second/")},
			{Destination: toURI("http://third/")},
		},
		Reply: new(toURI("http://end/")),
	}}
	p.create(t, o)
	ready := func(o *flowsv1.Sequence) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	}
	eventually(t, p.platform, o, namespace, "flow", "the sequence is ready", ready)
	if want := "http://broker-ingress.ebb-system.svc.cluster.local/channels/" + namespace + "/flow-kn-sequence-0"; o.Status.Address == nil || o.Status.Address.URL != want {
		t.Errorf("the address is %+v, want %s", o.Status.Address, want)
	}
	if len(o.Status.ChannelStatuses) != 3 || len(o.Status.SubscriptionStatuses) != 3 || o.Status.SubscriptionStatuses[2].Subscription.Name != "flow-kn-sequence-2" {
		t.Errorf("the status is %+v", o.Status)
	}
	step := func(i int) plan.Subscription {
		sub := &messagingv1.Subscription{}
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: fmt.Sprintf("flow-kn-sequence-%d", i)}, sub); err != nil {
			t.Fatal(err)
		}
		return p.served(t, sub.UID, func(plan.Subscription) bool { return true })
	}
	for i, url := range []string{"http://first/", "http://second/", "http://third/"} {
		s := step(i)
		if s.Subscriber.URL != url {
			t.Errorf("step %d goes to %s", i, s.Subscriber.URL)
		}
		if i < 2 && s.ReplyTopic != step(i+1).Topic || i == 2 && (s.ReplyTopic != "" || s.Reply.URL != "http://end/") {
			t.Errorf("step %d answers to %q, %q", i, s.ReplyTopic, s.Reply.URL)
		}
	}
	if step(0).Delivery.Retry != 1 || step(1).Delivery.Retry == 1 {
		t.Errorf("retries %d and %d", step(0).Delivery.Retry, step(1).Delivery.Retry)
	}
	// Fewer steps: what is not needed goes, and its topic with it.
	update(t, p.platform, o, namespace, "flow", func(o *flowsv1.Sequence) { o.Spec.Steps = o.Spec.Steps[:1] })
	until(t, "one topic is left", func() error {
		if topics, places := p.books.of(namespace); len(topics) != 2 || len(places) != 1 {
			return fmt.Errorf("there are %v and %v", topics, places)
		}
		return nil
	})
	eventually(t, p.platform, o, namespace, "flow", "the short sequence is ready", func(o *flowsv1.Sequence) string {
		if len(o.Status.ChannelStatuses) != 1 {
			return "there should be one channel"
		}
		return ready(o)
	})
}

func parallelBranches(t *testing.T, p *eventingPlatform, namespace string) {
	o := &flowsv1.Parallel{ObjectMeta: meta(namespace, "flow"), Spec: flowsv1.ParallelSpec{
		Branches: []flowsv1.ParallelBranch{
			{Filter: new(toURI("http://filter/")), Subscriber: toURI("http://a/"), Reply: new(toURI("http://own/"))},
			{Subscriber: toRef("v1", "Service", "late")},
		},
		Reply: new(toURI("http://all/")),
	}}
	p.create(t, o)
	eventually(t, p.platform, o, namespace, "flow", "the parallel says what is missing", func(o *flowsv1.Parallel) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionFalse, "NotResolved", "Subscription flow-kn-parallel-1: Subscriber: core Service "+namespace+"/late does not exist.")
	})
	p.create(t, &corev1.Service{ObjectMeta: meta(namespace, "late"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	eventually(t, p.platform, o, namespace, "flow", "the parallel is ready", func(o *flowsv1.Parallel) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionTrue, "", "")
	})
	of := func(name string) plan.Subscription {
		sub := &messagingv1.Subscription{}
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, sub); err != nil {
			t.Fatal(err)
		}
		return p.served(t, sub.UID, func(plan.Subscription) bool { return true })
	}
	filter, a, b := of("flow-kn-parallel-filter-0"), of("flow-kn-parallel-0"), of("flow-kn-parallel-1")
	if filter.Subscriber.URL != "http://filter/" || filter.ReplyTopic != a.Topic || a.Subscriber.URL != "http://a/" || a.Reply.URL != "http://own/" {
		t.Errorf("the first branch is %+v and %+v", filter, a)
	}
	if b.Topic != filter.Topic || b.Reply.URL != "http://all/" {
		t.Errorf("the second branch is %+v", b)
	}
	if len(o.Status.BranchStatuses) != 2 || o.Status.BranchStatuses[0].FilterChannelStatus == nil || o.Status.BranchStatuses[1].FilterChannelStatus != nil {
		t.Errorf("the status is %+v", o.Status)
	}
}

func eventTypes(t *testing.T, p *eventingPlatform, namespace string) {
	b := p.broker(t, namespace)
	p.brokerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	of := plan.Address{Kind: plan.Broker, Namespace: namespace, Name: "main"}
	list := func() []eventingv1beta2.EventType {
		list := &eventingv1beta2.EventTypeList{}
		if err := p.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	for range 3 {
		p.recorder.Seen(of, "com.example.Order", "/shop", "")
	}
	p.recorder.Seen(plan.Address{Kind: plan.Channel, Namespace: namespace, Name: "main"}, "of.a.channel", "/shop", "")
	p.recorder.Seen(of, "com.example.paid", "/bank", "http://schema/")
	until(t, "two types are ready", func() error {
		types := list()
		if len(types) != 2 || !types[0].Status.Conditions.Get("Ready").IsTrue() || !types[1].Status.Conditions.Get("Ready").IsTrue() {
			return fmt.Errorf("they are %+v", types)
		}
		return nil
	})
	one := list()[0]
	if one.Spec.Type != "com.example.Order" || one.Spec.Source != "/shop" || one.Spec.Reference.Name != "main" || !metav1.IsControlledBy(&one, b) {
		t.Errorf("the type is %+v", one)
	}
	if !strings.HasPrefix(one.Name, "com-example-order-") {
		t.Errorf("the type is called %s", one.Name)
	}
	// One that somebody wrote, of a Broker that is not there.
	p.create(t, &eventingv1beta2.EventType{ObjectMeta: meta(namespace, "written"), Spec: eventingv1beta2.EventTypeSpec{Type: "a", Broker: "nowhere"}})
	eventually(t, p.platform, &eventingv1beta2.EventType{}, namespace, "written", "its broker is missing", func(o *eventingv1beta2.EventType) string {
		return says(o.Status.Conditions, "Ready", corev1.ConditionFalse, "ResourceDoesNotExist", "Broker "+namespace+"/nowhere does not exist.")
	})
}
