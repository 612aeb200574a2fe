package settings

import (
	"errors"
	"fmt"
	"regexp"
	"text/template"
	"text/template/parse"
)

const (
	// maxTemplate bounds the text of a template, in bytes.
	maxTemplate = 4096
	// maxValue bounds what one function of a template returns, in bytes.
	maxValue = 4096
)

// errValue stops a template whose values grow.
var errValue = fmt.Errorf("a value is longer than %d bytes", maxValue)

// newTemplate parses a template that takes bounded time and memory for bounded data,
// whatever it says: it has no loops and no templates of its own, and no value grows.
func newTemplate(name, text string) (*template.Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("the template is longer than %d bytes", maxTemplate)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(boundedFuncs()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("not a template: %w", err)
	}
	for _, defined := range t.Templates() {
		if defined.Name() != name {
			return nil, errors.New("a template here cannot define others")
		}
	}
	if t.Tree == nil {
		return t, nil
	}
	return t, straight(t.Root)
}

// straight refuses what is executed more than once.
func straight(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		var branch *parse.BranchNode
		switch node := node.(type) {
		case *parse.RangeNode:
			return errors.New("a template here cannot use range")
		case *parse.TemplateNode:
			return errors.New("a template here cannot call others")
		case *parse.IfNode:
			branch = &node.BranchNode
		case *parse.WithNode:
			branch = &node.BranchNode
		default:
			continue
		}
		if err := errors.Join(straight(branch.List), straight(branch.ElseList)); err != nil {
			return err
		}
	}
	return nil
}

// wide finds widths that would make much of little.
var wide = regexp.MustCompile(`[0-9]{4}|\*`)

// boundedFuncs are the functions of text/template that make text, with a bound.
func boundedFuncs() template.FuncMap {
	bound := func(text string) (string, error) {
		if len(text) > maxValue {
			return "", errValue
		}
		return text, nil
	}
	of := func(f func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) { return bound(f(args...)) }
	}
	return template.FuncMap{
		"html": of(template.HTMLEscaper), "js": of(template.JSEscaper), "urlquery": of(template.URLQueryEscaper),
		"print": of(fmt.Sprint), "println": of(fmt.Sprintln),
		"printf": func(format string, args ...any) (string, error) {
			if wide.MatchString(format) {
				return "", errValue
			}
			return bound(fmt.Sprintf(format, args...))
		},
	}
}
