package duck

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// SourceSpec is what every source has.
type SourceSpec struct {
	// Sink takes the events.
	// +optional
	Sink Destination `json:"sink,omitzero"`
	// CloudEventOverrides are attributes that every event gets.
	// +optional
	CloudEventOverrides *CloudEventOverrides `json:"ceOverrides,omitempty"`
}

// CloudEventOverrides are attributes that every event gets.
type CloudEventOverrides struct {
	// Extensions by name.
	// +optional
	Extensions map[string]string `json:"extensions,omitempty"`
}

// SetDefaults fills in the namespace of the sink.
func (s *SourceSpec) SetDefaults(namespace string) { s.Sink.SetDefaults(namespace) }

// Validate lists what is wrong with what every source has.
func (s *SourceSpec) Validate(path *field.Path) field.ErrorList {
	errs := s.Sink.Validate(path.Child("sink"))
	if s.CloudEventOverrides == nil {
		return errs
	}
	at := path.Child("ceOverrides", "extensions")
	for _, name := range slices.Sorted(maps.Keys(s.CloudEventOverrides.Extensions)) {
		if !AttributeName(name) {
			errs = append(errs, field.Invalid(at.Key(name), name, "must be the name of an extension: lower-case letters and digits, a letter first"))
		}
		if len(errs) > maxFilters {
			break
		}
	}
	return errs
}

// SourceStatus is what Ebb has seen of a source.
type SourceStatus struct {
	v1.Status `json:",inline"`

	// SinkURI is the address of the sink.
	// +optional
	SinkURI string `json:"sinkUri,omitempty"`
	// CloudEventAttributes are the types and sources of the events.
	// +optional
	// +listType=atomic
	CloudEventAttributes []CloudEventAttributes `json:"ceAttributes,omitempty"`
	// +optional
	SinkCACerts *string `json:"sinkCACerts,omitempty"`
	// +optional
	SinkAudience *string `json:"sinkAudience,omitempty"`
	// +optional
	Auth *AuthStatus `json:"auth,omitempty"`
}

// CloudEventAttributes are a type and a source of events.
type CloudEventAttributes struct {
	// +optional
	Type string `json:"type,omitempty"`
	// +optional
	Source string `json:"source,omitempty"`
}

// SinkProvided is a source's condition: its sink is there and has an address.
const SinkProvided = "SinkProvided"
