package compat

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingv1beta1 "knative.dev/serving/pkg/apis/serving/v1beta1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
)

// kind is one of the API in the public Go types and in ours.
type kind struct {
	name         string
	public, ours func() runtime.Object
	publicList   any
	ourList      any
}

func kinds() []kind {
	return []kind{
		{v1.KindService, func() runtime.Object { return &servingv1.Service{} }, func() runtime.Object { return &v1.Service{} }, servingv1.ServiceList{}, v1.ServiceList{}},
		{v1.KindConfiguration, func() runtime.Object { return &servingv1.Configuration{} }, func() runtime.Object { return &v1.Configuration{} }, servingv1.ConfigurationList{}, v1.ConfigurationList{}},
		{v1.KindRoute, func() runtime.Object { return &servingv1.Route{} }, func() runtime.Object { return &v1.Route{} }, servingv1.RouteList{}, v1.RouteList{}},
		{v1.KindRevision, func() runtime.Object { return &servingv1.Revision{} }, func() runtime.Object { return &v1.Revision{} }, servingv1.RevisionList{}, v1.RevisionList{}},
		{v1beta1.KindDomainMapping, func() runtime.Object { return &servingv1beta1.DomainMapping{} }, func() runtime.Object { return &v1beta1.DomainMapping{} }, servingv1beta1.DomainMappingList{}, v1beta1.DomainMappingList{}},
	}
}

// TestDeclarations compares the paths of the JSON members of both types, and what kind
// of JSON is there.
func TestDeclarations(t *testing.T) {
	for _, k := range kinds() {
		for _, pair := range [][2]any{{k.public(), k.ours()}, {k.publicList, k.ourList}} {
			public, ours := map[string]string{}, map[string]string{}
			members("", reflect.TypeOf(pair[0]), public, nil)
			members("", reflect.TypeOf(pair[1]), ours, nil)
			if len(public) < 20 {
				t.Errorf("%T has %d members", pair[0], len(public))
			}
			if diff := cmp.Diff(public, ours); diff != "" {
				t.Errorf("%T (-public +ours):\n%s", pair[1], diff)
			}
		}
	}
}

// members collects the JSON members below a type. What encodes itself is one scalar, as
// all such types of this API are.
func members(path string, t reflect.Type, into map[string]string, within []reflect.Type) {
	marshaler := reflect.TypeFor[json.Marshaler]()
	switch {
	case t.Kind() == reflect.Pointer:
		members(path, t.Elem(), into, within)
	case t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler):
		into[path] = "string"
	case t.Kind() == reflect.Slice:
		members(path+"[]", t.Elem(), into, within)
	case t.Kind() == reflect.Map:
		members(path+"{}", t.Elem(), into, within)
	case t.Kind() == reflect.Struct:
		for _, outer := range within {
			if outer == t {
				into[path] = "again"
				return
			}
		}
		for f := range t.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported():
			case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
				members(path, f.Type, into, append(within, t))
			default:
				members(path+"."+name, f.Type, into, append(within, t))
			}
		}
	default:
		into[path] = t.Kind().String()
	}
}
