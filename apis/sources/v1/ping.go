package v1

import (
	"encoding/base64"
	"encoding/json"
	"mime"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/eventing/duck"
	"ebb.dev/ebb/apis/settings"
)

// PingSource sends an event at the times of a cron schedule.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="duck.knative.dev/source=true"
// +kubebuilder:metadata:labels="eventing.knative.dev/source=true"
// +kubebuilder:metadata:annotations="registry.knative.dev/eventTypes=[{\"type\": \"dev.knative.sources.ping\"}]"
// +kubebuilder:resource:path=pingsources,singular=pingsource,categories=all;knative;sources
// +kubebuilder:printcolumn:name="Sink",type=string,JSONPath=`.status.sinkUri`
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
type PingSource struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec PingSourceSpec `json:"spec,omitzero"`
	// +optional
	// +kubebuilder:default={observedGeneration: 0}
	Status PingSourceStatus `json:"status,omitzero"`
}

// PingSourceList is a list of PingSources.
//
// +kubebuilder:object:root=true
type PingSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []PingSource `json:"items"`
}

// PingSourceSpec says what is sent when.
type PingSourceSpec struct {
	duck.SourceSpec `json:",inline"`

	// Schedule in the five fields of cron, or six with seconds first, or like @every 30s.
	// +optional
	Schedule string `json:"schedule,omitempty"`
	// Timezone of the schedule, like Europe/Berlin; UTC where it is left out.
	// +optional
	Timezone string `json:"timezone,omitempty"`
	// ContentType of the data.
	// +optional
	ContentType string `json:"contentType,omitempty"`
	// Data of the events.
	// +optional
	Data string `json:"data,omitempty"`
	// DataBase64 is data that is no text.
	// +optional
	DataBase64 string `json:"dataBase64,omitempty"`
}

// PingSourceStatus is what Ebb has seen of a PingSource.
type PingSourceStatus struct {
	duck.SourceStatus `json:",inline"`
}

// Deployed is a source's condition: what makes its events runs.
const Deployed = "Deployed"

// PingSourceDependents are the conditions that decide a PingSource's Ready.
func PingSourceDependents() []string { return []string{duck.SinkProvided, Deployed} }

// DefaultSchedule is every minute.
const DefaultSchedule = "* * * * *"

// maxData bounds the data of an event, in bytes.
const maxData = 1 << 20

// SetDefaults fills in the schedule and the namespace of the sink.
func (p *PingSource) SetDefaults(*settings.Settings) {
	if p.Spec.Schedule == "" {
		p.Spec.Schedule = DefaultSchedule
	}
	p.Spec.SourceSpec.SetDefaults(p.Namespace)
}

// Warnings are none.
func (*PingSource) Warnings() []string { return nil }

// Validate lists what is wrong with a PingSource that is about to be stored.
func (p *PingSource) Validate(*settings.Settings) field.ErrorList {
	spec := field.NewPath("spec")
	errs := p.Spec.SourceSpec.Validate(spec)
	if _, wrong := ParseSchedule(p.Spec.Schedule, p.Spec.Timezone); wrong != nil {
		value := p.Spec.Schedule
		if wrong.Field == "timezone" {
			value = p.Spec.Timezone
		}
		errs = append(errs, field.Invalid(spec.Child(wrong.Field), value, wrong.Detail))
	}
	if p.Spec.Data != "" && p.Spec.DataBase64 != "" {
		errs = append(errs, field.Forbidden(spec.Child("dataBase64"), "data is given already"))
	}
	mediaType, _, err := mime.ParseMediaType(p.Spec.ContentType)
	if p.Spec.ContentType != "" && err != nil {
		errs = append(errs, field.Invalid(spec.Child("contentType"), p.Spec.ContentType, "must be a media type, like application/json"))
	}
	if mediaType == "application/json" && p.Spec.Data != "" && !json.Valid([]byte(p.Spec.Data)) {
		errs = append(errs, field.Invalid(spec.Child("data"), p.Spec.Data, "is not JSON, as contentType says"))
	}
	if len(p.Spec.Data) > maxData {
		errs = append(errs, field.TooLong(spec.Child("data"), "", maxData))
	}
	if decoded, err := base64.StdEncoding.DecodeString(p.Spec.DataBase64); err != nil {
		errs = append(errs, field.Invalid(spec.Child("dataBase64"), p.Spec.DataBase64, "is not base64"))
	} else if len(decoded) > maxData {
		errs = append(errs, field.TooLong(spec.Child("dataBase64"), "", maxData))
	}
	return errs
}

// UntypedSpec points to the spec.
func (p *PingSource) UntypedSpec() any { return &p.Spec }
