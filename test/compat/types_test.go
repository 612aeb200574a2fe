package compat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// TestDeclarations compares each struct that both packages declare: the names of its
// JSON members and what they hold.
func TestDeclarations(t *testing.T) {
	structs := map[string]reflect.Type{}
	for _, v := range []any{
		v1.Service{}, v1.ServiceList{}, v1.ServiceSpec{}, v1.ServiceStatus{},
		v1.Configuration{}, v1.ConfigurationList{}, v1.ConfigurationSpec{}, v1.ConfigurationStatus{}, v1.ConfigurationStatusFields{},
		v1.Route{}, v1.RouteList{}, v1.RouteSpec{}, v1.RouteStatus{}, v1.RouteStatusFields{}, v1.TrafficTarget{},
		v1.Revision{}, v1.RevisionList{}, v1.RevisionSpec{}, v1.RevisionStatus{}, v1.RevisionTemplateSpec{}, v1.ContainerStatus{},
	} {
		structs[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	files, err := filepath.Glob(filepath.Join(public(t), "pkg/apis/serving/v1/*_types.go"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%v %v", files, err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			declared, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			ours, ok := structs[spec.Name.Name]
			if !ok {
				t.Errorf("public struct %s has no counterpart", spec.Name.Name)
				return false
			}
			delete(structs, spec.Name.Name)
			if diff := cmp.Diff(publicFields(declared), ourFields(ours)); diff != "" {
				t.Errorf("%s (-public +ours):\n%s", spec.Name.Name, diff)
			}
			return false
		})
	}
	for name := range structs {
		t.Errorf("struct %s is not public", name)
	}
}

// publicFields gives the type of each JSON member, without packages and with the types
// that JSON does not tell apart made one.
func publicFields(s *ast.StructType) map[string]string {
	fields := map[string]string{}
	for _, f := range s.Fields.List {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		name, _, _ := strings.Cut(tag.Get("json"), ",")
		fields[member(name, spell(f.Type))] = spell(f.Type)
	}
	return fields
}

func spell(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if e.Sel.Name == "URL" {
			return "string"
		}
		return e.Sel.Name
	case *ast.StarExpr:
		return spell(e.X)
	case *ast.ArrayType:
		return "[]" + spell(e.Elt)
	}
	return "?"
}

func ourFields(t reflect.Type) map[string]string {
	fields := map[string]string{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		spelled := spellType(f.Type)
		fields[member(name, spelled)] = spelled
	}
	return fields
}

func spellType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return spellType(t.Elem())
	case reflect.Slice:
		return "[]" + spellType(t.Elem())
	default:
		return t.Name()
	}
}

func member(name, typeName string) string {
	if name == "" {
		return "inline " + typeName
	}
	return name
}
