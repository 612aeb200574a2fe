package duck

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// SubscriptionsAPIFilter is one expression, in exactly one of the dialects of the CloudEvents Subscriptions API. What is
// given and empty is kept so, and refused: without it, the filter would hold for every event.
type SubscriptionsAPIFilter struct {
	// All holds when each of these holds.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	All []SubscriptionsAPIFilter `json:"all,omitzero"`
	// Any holds when one of these holds.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Any []SubscriptionsAPIFilter `json:"any,omitzero"`
	// Not holds when this does not.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Not *SubscriptionsAPIFilter `json:"not,omitempty"`
	// Exact holds when each attribute has the value.
	// +optional
	Exact map[string]string `json:"exact,omitzero"`
	// Prefix holds when the value of each attribute begins so.
	// +optional
	Prefix map[string]string `json:"prefix,omitzero"`
	// Suffix holds when the value of each attribute ends so.
	// +optional
	Suffix map[string]string `json:"suffix,omitzero"`
	// CESQL holds when the expression of CloudEvents SQL is true.
	// +optional
	CESQL string `json:"cesql,omitempty"`
}

// Bounds of filters.
const (
	maxFilterDepth = 10
	maxFilters     = 256 // expressions of one object, nested ones included
	maxCESQL       = 4 << 10
)

// ValidateFilters lists what is wrong with filters, but for what only the compiler of an expression finds.
func ValidateFilters(filters []SubscriptionsAPIFilter, path *field.Path) field.ErrorList {
	left := maxFilters
	var errs field.ErrorList
	for i := range filters {
		errs = append(errs, filters[i].validate(path.Index(i), 1, &left)...)
	}
	return errs
}

func (f *SubscriptionsAPIFilter) validate(path *field.Path, depth int, left *int) field.ErrorList {
	if *left--; *left == -1 {
		return field.ErrorList{field.TooMany(path, maxFilters+1, maxFilters)}
	} else if *left < 0 {
		return nil // it was said
	}
	if depth > maxFilterDepth {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, fmt.Sprintf("is nested more than %d deep", maxFilterDepth))}
	}
	var errs field.ErrorList
	dialects := 0
	nested := func(name string, list []SubscriptionsAPIFilter) {
		if list == nil {
			return
		}
		dialects++
		if len(list) == 0 {
			errs = append(errs, field.Required(path.Child(name), "at least one filter"))
		}
		for i := range list {
			errs = append(errs, list[i].validate(path.Child(name).Index(i), depth+1, left)...)
		}
	}
	compared := func(name string, values map[string]string) {
		if values == nil {
			return
		}
		dialects++
		if len(values) == 0 {
			errs = append(errs, field.Required(path.Child(name), "at least one attribute and its value"))
		}
		errs = append(errs, ValidateAttributes(values, path.Child(name), false)...)
	}
	nested("all", f.All)
	nested("any", f.Any)
	compared("exact", f.Exact)
	compared("prefix", f.Prefix)
	compared("suffix", f.Suffix)
	if f.Not != nil {
		dialects++
		errs = append(errs, f.Not.validate(path.Child("not"), depth+1, left)...)
	}
	if f.CESQL != "" {
		dialects++
		if len(f.CESQL) > maxCESQL {
			errs = append(errs, field.TooLong(path.Child("cesql"), "", maxCESQL))
		}
	}
	if dialects > 1 {
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "has more than one dialect: give each a filter of its own"))
	}
	return errs
}

// ValidateAttributes lists what is wrong with attributes and what they are compared with.
func ValidateAttributes(values map[string]string, path *field.Path, empty bool) field.ErrorList {
	var errs field.ErrorList
	if len(values) > maxFilters {
		return field.ErrorList{field.TooMany(path, len(values), maxFilters)}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !AttributeName(name) {
			errs = append(errs, field.Invalid(path.Key(name), name, "must be the name of an attribute: lower-case letters and digits, a letter first"))
		}
		if values[name] == "" && !empty {
			errs = append(errs, field.Required(path.Key(name), "the value to compare with"))
		}
	}
	return errs
}

// AttributeName says whether a context attribute of an event can be called so.
func AttributeName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= maxAttributeName
}

const maxAttributeName = 256
