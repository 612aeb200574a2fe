package duck

import (
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DeliverySpec is when an event is tried again, and where it goes when that is no use.
// Durations are of ISO 8601, like PT0.2S.
type DeliverySpec struct {
	// DeadLetterSink takes what could not be delivered.
	// +optional
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
	// Retry is how often an event is tried again.
	// +optional
	Retry *int32 `json:"retry,omitempty"`
	// Timeout of one attempt; above zero.
	// +optional
	Timeout *string `json:"timeout,omitempty"`
	// BackoffPolicy is linear (delay x n) or exponential (delay x 2^n).
	// +optional
	BackoffPolicy *string `json:"backoffPolicy,omitempty"`
	// BackoffDelay is the delay before an event is tried again.
	// +optional
	BackoffDelay *string `json:"backoffDelay,omitempty"`
	// RetryAfterMax is the longest Retry-After that is followed; PT0S: none is.
	// +optional
	RetryAfterMax *string `json:"retryAfterMax,omitempty"`
	// Format of the events that are sent: json (structured) or binary, which is the default.
	// +optional
	Format *string `json:"format,omitempty"`
}

// Values of BackoffPolicy and Format.
const (
	BackoffLinear      = "linear"
	BackoffExponential = "exponential"
	FormatJSON         = "json"
	FormatBinary       = "binary"
)

// Bounds of a DeliverySpec.
const (
	MaxRetry    = 1000
	MaxDuration = 24 * time.Hour
)

// SetDefaults fills in the namespace of the dead-letter sink.
func (d *DeliverySpec) SetDefaults(namespace string) {
	if d != nil {
		d.DeadLetterSink.SetDefaults(namespace)
	}
}

// Validate lists what is wrong with a delivery; nil is one that says nothing.
func (d *DeliverySpec) Validate(path *field.Path) field.ErrorList {
	if d == nil {
		return nil
	}
	var errs field.ErrorList
	if d.DeadLetterSink != nil {
		errs = append(errs, d.DeadLetterSink.Validate(path.Child("deadLetterSink"))...)
	}
	if d.Retry != nil && (*d.Retry < 0 || *d.Retry > MaxRetry) {
		errs = append(errs, field.Invalid(path.Child("retry"), *d.Retry, "must be 0..1000"))
	}
	errs = append(errs, oneOf(path.Child("backoffPolicy"), d.BackoffPolicy, BackoffExponential, BackoffLinear)...)
	errs = append(errs, oneOf(path.Child("format"), d.Format, FormatBinary, FormatJSON)...)
	errs = append(errs, duration(path.Child("timeout"), d.Timeout, false)...)
	errs = append(errs, duration(path.Child("backoffDelay"), d.BackoffDelay, true)...)
	return append(errs, duration(path.Child("retryAfterMax"), d.RetryAfterMax, true)...)
}

func oneOf(path *field.Path, value *string, values ...string) field.ErrorList {
	if value == nil {
		return nil
	}
	for _, v := range values {
		if *value == v {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, *value, values)}
}

func duration(path *field.Path, value *string, zero bool) field.ErrorList {
	if value == nil {
		return nil
	}
	d, err := ParseDuration(*value)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(path, *value, err.Error())}
	case d == 0 && !zero:
		return field.ErrorList{field.Invalid(path, *value, "must be above zero")}
	case d > MaxDuration:
		return field.ErrorList{field.Invalid(path, *value, "must be at most PT24H")}
	}
	return nil
}

// DeliveryStatus is where dead letters go.
type DeliveryStatus struct {
	// DeadLetterSinkURI is the address of the dead-letter sink.
	// +optional
	DeadLetterSinkURI string `json:"deadLetterSinkUri,omitempty"`
	// +optional
	DeadLetterSinkCACerts *string `json:"deadLetterSinkCACerts,omitempty"`
	// +optional
	DeadLetterSinkAudience *string `json:"deadLetterSinkAudience,omitempty"`
}
