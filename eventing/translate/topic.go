package translate

import (
	"ebb.dev/ebb/apis/eventing"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	serving "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/plan"
)

// Broker is the topic of a Broker.
func Broker(b *eventingv1.Broker, s *settings.Settings) plan.Topic {
	a := plan.Address{Kind: plan.Broker, Namespace: b.Namespace, Name: b.Name}
	return topic(a, string(b.UID), &b.Status.Status, s)
}

// Channel is the topic of a Channel.
func Channel(c *messagingv1.Channel, s *settings.Settings) plan.Topic {
	a := plan.Address{Kind: plan.Channel, Namespace: c.Namespace, Name: c.Name}
	return topic(a, string(c.UID), &c.Status.Status, s)
}

// topic accepts events from when the store has had it once; what became of the store then is the store's to say.
func topic(a plan.Address, uid string, status *serving.Status, s *settings.Settings) plan.Topic {
	t := plan.Topic{Address: a, UID: uid, Engine: Engine(a, uid, s), HopLimit: int(s.Eventing.HopLimit)}
	if t.Accepts = status.Annotations[eventing.TopicAnnotation] == t.Engine.Name; t.Accepts {
		return t
	}
	t.Why = string(a.Kind) + " " + a.Namespace + "/" + a.Name + " has no topic in the store of events yet."
	if ready := status.Conditions.Get(eventingv1.TopicReady); ready != nil && ready.Message != "" {
		t.Why = ready.Message
	}
	return t
}

// Engine is what the engine keeps for a Broker or a Channel.
func Engine(a plan.Address, uid string, s *settings.Settings) engine.Topic {
	e := s.Eventing
	return engine.Topic{
		Name: plan.TopicName(a, uid), Replicas: int(e.Replicas),
		MaxBytes: e.MaxBytes, MaxEvents: e.MaxEvents, MaxAge: e.MaxAge, MaxEventBytes: int32(e.MaxEventBytes), //nolint:gosec // bounded by the settings
		Duplicates: e.DuplicatesWindow,
	}
}

// DeadLetters is what the engine keeps of a topic's events that could not be delivered.
func DeadLetters(of engine.Topic, s *settings.Settings) engine.Topic {
	e := s.Eventing
	return engine.Topic{
		Name: plan.DeadLetters(of.Name), Replicas: int(e.Replicas),
		MaxBytes: e.DeadLetterMaxBytes, MaxAge: e.DeadLetterMaxAge,
		// A dead letter has attributes more than its event, and some of the answer.
		MaxEventBytes: of.MaxEventBytes + 64<<10,
		Duplicates:    e.DuplicatesWindow, KeepAll: true,
	}
}
