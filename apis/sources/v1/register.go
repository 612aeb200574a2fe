package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/eventing"
)

// GroupVersion is sources.knative.dev/v1.
var GroupVersion = schema.GroupVersion{Group: eventing.SourcesGroupName, Version: "v1"}

// Kinds of the group.
const (
	KindPingSource      = "PingSource"
	KindApiServerSource = "ApiServerSource" //nolint:revive,staticcheck // the kind is spelled so
	KindContainerSource = "ContainerSource"
	KindSinkBinding     = "SinkBinding"
)

// AddToScheme registers the kinds and their lists.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&PingSource{}, &PingSourceList{},
		&ApiServerSource{}, &ApiServerSourceList{},
		&ContainerSource{}, &ContainerSourceList{},
		&SinkBinding{}, &SinkBindingList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// LastTickAnnotation in a PingSource's status is the time, RFC 3339, up to which all ticks are done with.
const LastTickAnnotation = "ebb.dev/last-tick"

// VersionsAnnotation in an ApiServerSource's status is, as a JSON object, the version up to which all was sent of each kind.
const VersionsAnnotation = "ebb.dev/versions"

// Reasons of the conditions of sources, beside NotResolved.
const (
	ReasonScheduleInvalid = "ScheduleInvalid"
	ReasonForbidden       = "Forbidden"
	ReasonNotAvailable    = "DeploymentUnavailable"
	ReasonRefused         = "FailedCreate"
	ReasonSpecInvalid     = "SpecInvalid"
	ReasonNotBegun        = "NotBegun"
	ReasonWatchFailed     = "WatchFailed"
	ReasonSubjectMissing  = "SubjectMissing"
	ReasonSubjectRefused  = "SubjectRefused"
)
