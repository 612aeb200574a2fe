package plan

// Filter is one expression in one of the dialects of the CloudEvents Subscriptions API, as
// data; eventing/filter compiles it. Exactly one field is given.
type Filter struct {
	// Exact, Prefix and Suffix hold when every attribute that is named is there and fits.
	// In Exact the value "" is any value, as in a Trigger's spec.filter.attributes.
	Exact, Prefix, Suffix []Match

	All, Any []Filter // at least one
	Not      *Filter
	CESQL    string // CloudEvents SQL v1
}

// Match is what one attribute is compared with. In a Filter they are by Attribute, each once.
type Match struct{ Attribute, Value string }
