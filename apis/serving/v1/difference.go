package v1

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// asJSON turns a value into maps, lists and scalars; nil when it cannot be encoded.
func asJSON(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(text, &out) != nil {
		return nil
	}
	return out
}

// changed returns the path of the one thing that differs, as deep as it is one thing.
func changed(path *field.Path, a, b any) *field.Path {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return path
		}
		keys := map[string]bool{}
		for k := range a {
			keys[k] = true
		}
		for k := range b {
			keys[k] = true
		}
		var different []string
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if !reflect.DeepEqual(a[k], b[k]) {
				different = append(different, k)
			}
		}
		if len(different) == 1 {
			k := different[0]
			return changed(path.Child(k), a[k], b[k])
		}
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return path
		}
		different := -1
		for i := range a {
			if reflect.DeepEqual(a[i], b[i]) {
				continue
			}
			if different >= 0 {
				return path
			}
			different = i
		}
		if different >= 0 {
			return changed(path.Index(different), a[different], b[different])
		}
	}
	return path
}
