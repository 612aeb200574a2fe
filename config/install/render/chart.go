package render

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/config/install"
)

// chart writes the templates: the objects of the default values with the places that values change replaced by
// what Helm makes of them. A test renders the chart with many values and compares with the objects that
// package install makes of the same.
func chart(files Files) error {
	stages, err := install.Stages(install.Default())
	if err != nil {
		return err
	}
	for _, stage := range stages {
		var text strings.Builder
		text.WriteString(Header)
		for _, o := range stage.Objects {
			kind := o.GetObjectKind().GroupVersionKind().Kind
			if kind == "Namespace" {
				continue // it is the release's
			}
			document, err := template(o)
			if err != nil {
				return err
			}
			if condition := conditionOf(o); condition != "" {
				document = "{{- if " + condition + " }}\n---\n" + document + "{{- end }}\n"
			} else {
				document = "---\n" + document
			}
			text.WriteString(document)
		}
		files["chart/templates/"+stage.Name+".yaml"] = []byte(text.String())
	}
	return nil
}

// form writes a place of a template: the lines for a key at an indentation, or for an item of a list where key is "".
type form func(indent, key string) string

// place is where in an object a form goes: keys and indices of lists, with a dot between them.
type place struct {
	path string
	form form
}

func template(o client.Object) (string, error) {
	content, err := Content(o)
	if err != nil {
		return "", err
	}
	places := placesOf(o)
	for i, p := range places {
		if err := put(content, strings.Split(p.path, "."), mark(i)); err != nil {
			return "", fmt.Errorf("%s, %s: %w", o.GetName(), p.path, err)
		}
	}
	if o.GetObjectKind().GroupVersionKind().Kind == "CustomResourceDefinition" {
		// What users wrote outlives the release.
		if err := put(content, []string{"metadata", "annotations", "helm.sh/resource-policy"}, "keep"); err != nil {
			return "", err
		}
	}
	text, err := yaml.Marshal(content)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(string(text), "{{", `{{ "{{" }}`)) {
		m := marked.FindStringSubmatch(line)
		if m == nil {
			b.WriteString(line)
			continue
		}
		i, err := strconv.Atoi(m[3])
		if err != nil {
			return "", err
		}
		b.WriteString(places[i].form(m[1], m[2]))
	}
	return b.String(), nil
}

func mark(i int) string { return fmt.Sprintf("@@%d@@", i) }

var marked = regexp.MustCompile(`^( *)(?:- |([A-Za-z_]+): )'@@(\d+)@@'\n$`)

// put replaces or adds a value; the index of a list may be one beyond its end.
func put(at any, path []string, value any) error {
	switch at := at.(type) {
	case map[string]any:
		if len(path) == 1 {
			at[path[0]] = value
			return nil
		}
		next, ok := at[path[0]]
		if !ok {
			next = map[string]any{}
			at[path[0]] = next
		}
		if list, ok := next.([]any); ok && len(path) == 2 {
			i, err := strconv.Atoi(path[1])
			if err != nil || i > len(list) {
				return fmt.Errorf("%s has no item %s", path[0], path[1])
			}
			if i == len(list) {
				list = append(list, nil)
			}
			list[i] = value
			at[path[0]] = list
			return nil
		}
		return put(next, path[1:], value)
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(at) {
			return fmt.Errorf("no item %s", path[0])
		}
		return put(at[i], path[1:], value)
	}
	return fmt.Errorf("nothing is below %s", path[0])
}
