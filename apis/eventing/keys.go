package eventing

import "ebb.dev/ebb/apis/serving"

// Groups of the kinds.
const (
	GroupName          = "eventing.knative.dev"
	MessagingGroupName = "messaging.knative.dev"
	FlowsGroupName     = "flows.knative.dev"
	SourcesGroupName   = "sources.knative.dev"
)

// Annotations of the public API.
const (
	// BrokerClassAnnotation on a Broker says who serves it; see Ours.
	BrokerClassAnnotation = GroupName + "/broker.class"
	// DependencyAnnotation on a Trigger is an object (JSON: apiVersion, kind, name) that has to be Ready first.
	DependencyAnnotation = "knative.dev/dependency"
	// InjectionAnnotation asks Knative for a Broker in the namespace. Ebb reads and does not follow it.
	InjectionAnnotation = GroupName + "/injection"
	// KafkaDeliveryOrderAnnotation is how the public Kafka Broker spells DeliveryOrderAnnotation.
	KafkaDeliveryOrderAnnotation = "kafka.eventing.knative.dev/delivery.order"
)

// Values of BrokerClassAnnotation that Ebb serves, as it serves a Broker without one.
const (
	ClassEbb          = "EbbBroker"
	ClassChannelBased = "MTChannelBasedBroker"
)

// Annotations of Ebb, on a Trigger or a Subscription.
const (
	// DeliveryOrderAnnotation is Ordered or Unordered, which is the default.
	DeliveryOrderAnnotation = serving.EbbGroupName + "/delivery-order"
	// PartitionKeyAnnotation is the attribute of events that have to keep their order; see PartitionKey.
	PartitionKeyAnnotation = serving.EbbGroupName + "/partition-key"
	// ParallelismAnnotation is the most deliveries in flight, a whole number.
	ParallelismAnnotation = serving.EbbGroupName + "/parallelism"
)

// Values of DeliveryOrderAnnotation.
const (
	Ordered   = "ordered"
	Unordered = "unordered"
)

// PartitionKey is the attribute that is looked at where none is named.
const PartitionKey = "partitionkey"

// MaxParallelism bounds ParallelismAnnotation.
const MaxParallelism = 10_000

// Annotations in a status.
const (
	// TopicAnnotation is the name of the topic in the engine: of a Broker or Channel its own, of a
	// Trigger or Subscription the one it has a place in.
	TopicAnnotation = serving.EbbGroupName + "/topic"
	// ReplyTopicAnnotation is the topic that replies are published into, where they need no HTTP.
	ReplyTopicAnnotation = serving.EbbGroupName + "/reply-topic"
)

// Finalizer is on what has something in the engine: it is gone there before the object is.
const Finalizer = "eventing." + serving.EbbGroupName + "/engine"

// Ours says whether Ebb serves a Broker with these annotations. One of another class
// belongs to another controller, and so do its Triggers.
func Ours(annotations map[string]string) bool {
	switch annotations[BrokerClassAnnotation] {
	case "", ClassEbb, ClassChannelBased:
		return true
	}
	return false
}
