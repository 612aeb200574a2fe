package controllers_test

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/eventing"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/jetstream"
	"ebb.dev/ebb/eventing/natsserver"
	"ebb.dev/ebb/eventing/plan"
)

// TestEventingOnJetStream: the controllers with a real store. A Trigger that is changed keeps its place,
// and nothing is left in the store of what was deleted.
func TestEventingOnJetStream(t *testing.T) {
	server, err := natsserver.Start(t.Context(), natsserver.Options{Name: "test", Listen: "127.0.0.1:0", Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	store, err := jetstream.Open(jetstream.Options{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	p := startEventing(t, store)
	namespace := p.namespace(t)
	b := p.broker(t, namespace)
	p.trigger(t, namespace)
	o := p.triggerSays(t, namespace, "Ready", corev1.ConditionTrue, "", "")
	topic := o.Status.Annotations[eventing.TopicAnnotation]
	publish := func(id string) error {
		_, err := store.Publish(t.Context(), topic, &event.Event{ID: id, Source: "/test", Type: "a", Data: []byte("{}")})
		return err
	}
	for _, id := range []string{"1", "2"} {
		if err := publish(id); err != nil {
			t.Fatal(err)
		}
	}
	update(t, p.platform, o, namespace, "one", func(o *eventingv1.Trigger) {
		o.Spec.Subscriber = toURI("http://other/")
		o.Annotations = map[string]string{eventing.ParallelismAnnotation: "7"}
	})
	p.served(t, o.UID, func(s plan.Subscription) bool { return s.Subscriber.URL == "http://other/" && s.Parallelism == 7 })
	consumer, err := store.Consume(t.Context(), topic, string(o.UID))
	if err != nil {
		t.Fatal(err)
	}
	consumer.SetInFlight(10)
	for _, want := range []string{"1", "2"} {
		next(t, consumer, want)
	}
	consumer.Close()

	p.delete(t, o)
	if _, err := store.Backlog(t.Context(), topic, string(o.UID)); !errors.Is(err, engine.ErrNoSubscription) {
		t.Errorf("the place of a trigger that went: %v", err)
	}
	p.delete(t, b)
	if err := publish("3"); !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("the topic of a broker that went: %v", err)
	}
	if n := server.Stats(); n.Streams != 0 {
		t.Errorf("the store has %+v", n)
	}
}

func next(t *testing.T, c engine.Consumer, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d.Event().ID != want {
		t.Errorf("event %s came, want %s", d.Event().ID, want)
	}
	if err := d.Ack(ctx); err != nil {
		t.Error(err)
	}
}
