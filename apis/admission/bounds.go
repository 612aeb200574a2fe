package admission

import (
	"fmt"
	"reflect"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// An object may be a megabyte of nothing but mistakes. To write them all down would take
// minutes and more room than an answer has.
const (
	maxErrors = 20
	maxValue  = 256     // bytes of a value that is quoted, or of a path
	maxDetail = 1 << 10 // bytes of what is said about it
	maxText   = 4 << 10 // bytes of what is not about a field
)

// bounded is the first few errors, each of a bounded length, and how many more there are.
func bounded(errs field.ErrorList) (few field.ErrorList, more int) {
	if len(errs) > maxErrors {
		more = len(errs) - maxErrors
		errs = errs[:maxErrors]
	}
	for _, e := range errs {
		short := *e
		short.Field, short.Detail = clip(e.Field, maxValue), clip(e.Detail, maxDetail)
		if v := reflect.ValueOf(e.BadValue); v.Kind() == reflect.String && v.Len() > maxValue {
			short.BadValue = clip(v.String(), maxValue)
		}
		few = append(few, &short)
	}
	return few, more
}

// clip cuts a text where it gets too long, and says so.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:end], len(text))
}
