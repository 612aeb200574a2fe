package v1

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
)

// ConditionReady is the condition that sums up an object.
const ConditionReady = "Ready"

// ConditionPaused is there, and True, while serving.PausedAnnotation stops an object's
// controller. It says nothing about Ready.
const ConditionPaused = "Paused"

// SeverityInfo marks a condition that says nothing about Ready. The empty severity
// is an error's.
const SeverityInfo = "Info"

// Status is the part of a status that every kind has.
type Status struct {
	// ObservedGeneration is the metadata.generation that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions, sorted by type.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions Conditions `json:"conditions,omitempty"`
	// Annotations hold what is worth keeping and has no field.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Condition is one statement about an object, with a reason for programs and a message
// for people.
type Condition struct {
	// Type of the condition, CamelCase.
	Type string `json:"type"`
	// Status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// Severity is empty where Status decides on Ready, Info where it does not.
	// +optional
	Severity string `json:"severity,omitempty"`
	// LastTransitionTime is when Status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
	// Reason in one word, CamelCase; empty when Status is True.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message says what happened and to which object.
	// +optional
	Message string `json:"message,omitempty"`
}

// Conditions is a set of conditions, at most one of a type, sorted by type. The
// methods that change it are not safe for concurrent use.
type Conditions []Condition

// Get returns the condition of the type, or nil. The pointer is into the set and is
// valid until the set changes.
func (c Conditions) Get(conditionType string) *Condition {
	for i := range c {
		if c[i].Type == conditionType {
			return &c[i]
		}
	}
	return nil
}

// IsTrue says whether the condition is there and True. It is nil-safe.
func (c *Condition) IsTrue() bool { return c != nil && c.Status == corev1.ConditionTrue }

// IsFalse says whether the condition is there and False. It is nil-safe.
func (c *Condition) IsFalse() bool { return c != nil && c.Status == corev1.ConditionFalse }

// IsUnknown says whether the condition is absent or neither True nor False. It is nil-safe.
func (c *Condition) IsUnknown() bool { return !c.IsTrue() && !c.IsFalse() }

// Set puts a condition in place of the one of its type. LastTransitionTime stays as it
// was while Status is the same, and is now otherwise, whatever next holds. now is cut
// to whole seconds, as the API server stores it. It returns whether anything changed.
func (c *Conditions) Set(next Condition, now time.Time) bool {
	i, found := slices.BinarySearchFunc(*c, next.Type, func(have Condition, name string) int {
		return strings.Compare(have.Type, name)
	})
	if !found {
		// A set written by another program may be unsorted.
		if i = slices.IndexFunc(*c, func(have Condition) bool { return have.Type == next.Type }); i >= 0 {
			found = true
		}
	}
	if found && (*c)[i].Status == next.Status && !(*c)[i].LastTransitionTime.IsZero() {
		next.LastTransitionTime = (*c)[i].LastTransitionTime
	} else {
		next.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
	if found {
		if (*c)[i] == next {
			return false
		}
		(*c)[i] = next
	} else {
		*c = append(*c, next)
	}
	slices.SortStableFunc(*c, func(a, b Condition) int { return strings.Compare(a.Type, b.Type) })
	return true
}

// SetTrue sets a condition True, without reason and message. It returns whether anything changed.
func (c *Conditions) SetTrue(conditionType string, now time.Time) bool {
	return c.Set(Condition{Type: conditionType, Status: corev1.ConditionTrue}, now)
}

// SetFalse sets a condition False. It returns whether anything changed.
func (c *Conditions) SetFalse(conditionType, reason, message string, now time.Time) bool {
	return c.Set(Condition{Type: conditionType, Status: corev1.ConditionFalse, Reason: reason, Message: message}, now)
}

// SetUnknown sets a condition Unknown. It returns whether anything changed.
func (c *Conditions) SetUnknown(conditionType, reason, message string, now time.Time) bool {
	return c.Set(Condition{Type: conditionType, Status: corev1.ConditionUnknown, Reason: reason, Message: message}, now)
}

// SetPaused notes that the object's controller does nothing. It returns whether anything changed.
func (c *Conditions) SetPaused(now time.Time) bool {
	return c.Set(Condition{Type: ConditionPaused, Status: corev1.ConditionTrue, Severity: SeverityInfo,
		Message: "Nothing is changed on behalf of this object while its annotation " + serving.PausedAnnotation + " is true."}, now)
}

// Remove takes a condition out. It returns whether it was there.
func (c *Conditions) Remove(conditionType string) bool {
	before := len(*c)
	*c = slices.DeleteFunc(*c, func(have Condition) bool { return have.Type == conditionType })
	return len(*c) != before
}

// Aggregate sets Ready from the conditions named: False wins over Unknown, Unknown over
// True, and of several the first one named gives Ready its reason and message. One that
// is not there counts as Unknown. It returns whether anything changed.
func (c *Conditions) Aggregate(dependents []string, now time.Time) bool {
	ready := Condition{Type: ConditionReady, Status: corev1.ConditionTrue}
	for _, name := range dependents {
		have := c.Get(name)
		switch {
		case have.IsFalse():
			return c.Set(Condition{Type: ConditionReady, Status: corev1.ConditionFalse, Reason: have.Reason, Message: have.Message}, now)
		case have.IsUnknown() && ready.Status == corev1.ConditionTrue:
			ready.Status = corev1.ConditionUnknown
			if have != nil {
				ready.Reason, ready.Message = have.Reason, have.Message
			}
		}
	}
	return c.Set(ready, now)
}

// Carry sets a condition to what another object's condition says: status, reason and
// message; Unknown when there is none. It returns whether anything changed.
func (c *Conditions) Carry(conditionType string, from *Condition, now time.Time) bool {
	next := Condition{Type: conditionType, Status: corev1.ConditionUnknown}
	if from != nil {
		next.Status, next.Reason, next.Message = from.Status, from.Reason, from.Message
	}
	return c.Set(next, now)
}
