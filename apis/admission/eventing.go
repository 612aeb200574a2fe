package admission

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	eventingv1beta2 "ebb.dev/ebb/apis/eventing/v1beta2"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
)

// ofEventing is what the kinds of eventing have beside the rest.
type ofEventing interface {
	object
	// UntypedSpec points to the spec.
	UntypedSpec() any
}

// newEventing returns an object of a kind of eventing, or nil for another kind.
func newEventing(kind metav1.GroupVersionKind) ofEventing {
	switch (schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}) {
	case eventingv1.GroupVersion.WithKind(eventingv1.KindBroker):
		return &eventingv1.Broker{}
	case eventingv1.GroupVersion.WithKind(eventingv1.KindTrigger):
		return &eventingv1.Trigger{}
	case eventingv1beta2.GroupVersion.WithKind(eventingv1beta2.KindEventType):
		return &eventingv1beta2.EventType{}
	case messagingv1.GroupVersion.WithKind(messagingv1.KindChannel):
		return &messagingv1.Channel{}
	case messagingv1.GroupVersion.WithKind(messagingv1.KindSubscription):
		return &messagingv1.Subscription{}
	case flowsv1.GroupVersion.WithKind(flowsv1.KindSequence):
		return &flowsv1.Sequence{}
	case flowsv1.GroupVersion.WithKind(flowsv1.KindParallel):
		return &flowsv1.Parallel{}
	case sourcesv1.GroupVersion.WithKind(sourcesv1.KindPingSource):
		return &sourcesv1.PingSource{}
	case sourcesv1.GroupVersion.WithKind(sourcesv1.KindApiServerSource):
		return &sourcesv1.ApiServerSource{}
	case sourcesv1.GroupVersion.WithKind(sourcesv1.KindContainerSource):
		return &sourcesv1.ContainerSource{}
	case sourcesv1.GroupVersion.WithKind(sourcesv1.KindSinkBinding):
		return &sourcesv1.SinkBinding{}
	}
	return nil
}
