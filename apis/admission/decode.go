package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving/nearest"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
)

// object is what all kinds have in common.
type object interface {
	metav1.Object
	runtime.Object
	SetDefaults(*settings.Settings)
	Validate(*settings.Settings) field.ErrorList
	Warnings() []string
}

// errUnknownKind is returned for a kind that admission does not know.
var errUnknownKind = errors.New("not a kind that admission knows")

func newObject(kind metav1.GroupVersionKind) (object, error) {
	switch (schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}) {
	case v1.GroupVersion.WithKind(v1.KindService):
		return &v1.Service{}, nil
	case v1.GroupVersion.WithKind(v1.KindConfiguration):
		return &v1.Configuration{}, nil
	case v1.GroupVersion.WithKind(v1.KindRoute):
		return &v1.Route{}, nil
	case v1.GroupVersion.WithKind(v1.KindRevision):
		return &v1.Revision{}, nil
	case v1beta1.GroupVersion.WithKind(v1beta1.KindDomainMapping):
		return &v1beta1.DomainMapping{}, nil
	case v1alpha1.GroupVersion.WithKind(v1alpha1.KindClusterDomainClaim):
		return &v1alpha1.ClusterDomainClaim{}, nil
	}
	if o := newEventing(kind); o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%s/%s %s: %w", kind.Group, kind.Version, kind.Kind, errUnknownKind)
}

// specOf returns a pointer to the spec of an object.
func specOf(o object) any {
	switch o := o.(type) {
	case *v1.Service:
		return &o.Spec
	case *v1.Configuration:
		return &o.Spec
	case *v1.Route:
		return &o.Spec
	case *v1.Revision:
		return &o.Spec
	case *v1beta1.DomainMapping:
		return &o.Spec
	case *v1alpha1.ClusterDomainClaim:
		return &o.Spec
	case ofEventing:
		return o.UntypedSpec()
	}
	return nil
}

// maxUnknown bounds the unknown fields that one refusal lists.
const maxUnknown = 10

// decode reads an object. Fields that the kind does not have, and fields given twice,
// are errors of the list; what is no such object at all is err.
func decode(kind metav1.GroupVersionKind, raw []byte) (o object, unknown field.ErrorList, err error) {
	o, err = newObject(kind)
	if err != nil {
		return nil, nil, err
	}
	strict, err := kjson.UnmarshalStrict(raw, o)
	if err != nil {
		return nil, nil, wrongType(kind, raw, err)
	}
	for _, e := range strict {
		if len(unknown) == maxUnknown {
			break
		}
		unknown = append(unknown, explain(reflect.TypeOf(o), e))
	}
	return o, unknown, nil
}

// typeError is a field that holds another kind of JSON than it should.
type typeError struct{ wrong *field.Error }

func (e typeError) Error() string { return e.wrong.Error() }

// wrongType says which field cannot be decoded: the first one, as deep as it is one.
func wrongType(kind metav1.GroupVersionKind, raw []byte, err error) error {
	root, _ := newObject(kind)
	path, t, value, cause := culprit(reflect.TypeOf(root), raw, nil, err)
	var mistyped *json.UnmarshalTypeError
	switch {
	case path == nil:
		return fmt.Errorf("not a %s: %w", kind.Kind, err)
	case !errors.As(json.Unmarshal(value, reflect.New(t).Interface()), &mistyped):
		return typeError{field.TypeInvalid(path, field.OmitValueType{}, cause.Error())}
	}
	want := "an object"
	switch t.Kind() {
	case reflect.Slice:
		want = "a list"
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		want = "a whole number"
	}
	return typeError{field.TypeInvalid(path, field.OmitValueType{}, fmt.Sprintf("is a JSON %s and must be %s", mistyped.Value, want))}
}

// culprit goes down from a value that cannot be decoded to the part of it that cannot,
// and returns its path (nil for the whole), its type, its JSON and why.
func culprit(t reflect.Type, raw []byte, path *field.Path, err error) (*field.Path, reflect.Type, []byte, error) {
	t = plain(t)
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	try := func(part reflect.Type, raw []byte) error {
		if part == nil {
			return nil
		}
		return kjson.UnmarshalCaseSensitivePreserveInts(raw, reflect.New(part).Interface())
	}
	var members map[string]json.RawMessage
	var items []json.RawMessage
	switch {
	case reflect.PointerTo(t).Implements(unmarshaler):
	case t.Kind() == reflect.Struct && json.Unmarshal(raw, &members) == nil:
		for _, name := range slices.Sorted(maps.Keys(members)) {
			part := fieldType(t, name)
			if err := try(part, members[name]); err != nil {
				return culprit(part, members[name], path.Child(name), err)
			}
		}
	case t.Kind() == reflect.Map && json.Unmarshal(raw, &members) == nil:
		for _, key := range slices.Sorted(maps.Keys(members)) {
			if err := try(t.Elem(), members[key]); err != nil {
				return culprit(t.Elem(), members[key], path.Key(key), err)
			}
		}
	case t.Kind() == reflect.Slice && json.Unmarshal(raw, &items) == nil:
		for i := range items {
			if err := try(t.Elem(), items[i]); err != nil {
				return culprit(t.Elem(), items[i], path.Index(i), err)
			}
		}
	}
	return path, t, raw, err
}

// explain turns an error of the strict decoder into one that says what was probably meant.
func explain(root reflect.Type, err error) *field.Error {
	fieldErr, ok := err.(kjson.FieldError) //nolint:errorlint // the decoder returns it bare
	if !ok {
		return field.Invalid(nil, "", err.Error())
	}
	text := fieldErr.FieldPath()
	path := field.NewPath(text)
	if strings.HasPrefix(err.Error(), "duplicate field") {
		return field.Forbidden(path, "is given twice")
	}
	dot := strings.LastIndexByte(text, '.')
	siblings := fieldNames(at(root, text[:max(dot, 0)]))
	if like := nearest.Name(text[dot+1:], siblings); like != "" {
		return field.Forbidden(path, fmt.Sprintf("unknown field; did you mean %q?", like))
	}
	return field.Forbidden(path, "unknown field")
}

// at returns the type found at a path like spec.template.spec.containers[0], or nil.
func at(t reflect.Type, path string) reflect.Type {
	t = plain(t)
	if path == "" {
		return t
	}
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		if t == nil || t.Kind() != reflect.Struct {
			return nil
		}
		t = fieldType(t, name)
		if indexed {
			if _, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err != nil || t == nil || t.Kind() != reflect.Slice {
				return nil
			}
			t = plain(t.Elem())
		}
	}
	return t
}

func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func fieldType(t reflect.Type, name string) reflect.Type {
	var found reflect.Type
	eachField(t, func(have string, ft reflect.Type) {
		if have == name && found == nil {
			found = plain(ft)
		}
	})
	return found
}

// fieldNames lists the JSON names of a struct's fields, sorted.
func fieldNames(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	eachField(t, func(name string, _ reflect.Type) { names = append(names, name) })
	slices.Sort(names)
	return names
}

func eachField(t reflect.Type, visit func(name string, t reflect.Type)) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "" && f.Anonymous:
			eachField(plain(f.Type), visit)
		case name != "" && name != "-":
			visit(name, f.Type)
		}
	}
}
