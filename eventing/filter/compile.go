package filter

import (
	"fmt"
	"strconv"
	"strings"

	"ebb.dev/ebb/eventing/plan"
)

// What a Trigger may ask for.
const (
	MaxDepth      = 32   // of all, any and not
	MaxFilters    = 1024 // with those inside of others, and attributes
	MaxExpression = 4096 // bytes of one cesql
)

// Error says what is wrong with a filter, and where.
type Error struct {
	Path     string // of the filter in the list: "[1].any[0].cesql"
	Dialect  string // "" where it has none, or several
	Position int    // in a cesql expression, in characters from 1; 0: not of one place
	Text     string
}

func (e *Error) Error() string {
	if e.Position > 0 {
		return fmt.Sprintf("filters%s: at character %d: %s", e.Path, e.Position, e.Text)
	}
	return fmt.Sprintf("filters%s: %s", e.Path, e.Text)
}

// Compile makes a Matcher of filters that all have to hold; with none it matches every event. When one of
// them is not right, the Matcher is Nothing and the error an *Error.
func Compile(filters []plan.Filter) (*Matcher, error) {
	c := compiler{}
	root := node{op: all, kids: make([]node, 0, len(filters))}
	for i := range filters {
		kid, err := c.filter(&filters[i], "["+strconv.Itoa(i)+"]", 1)
		if err != nil {
			return Nothing, err
		}
		root.kids = append(root.kids, kid)
	}
	return &Matcher{root: root.flat()}, nil
}

type compiler struct{ count int }

func (c *compiler) filter(f *plan.Filter, path string, depth int) (node, error) {
	fail := func(dialect, text string) (node, error) {
		return node{}, &Error{Path: path, Dialect: dialect, Text: text}
	}
	given := dialects(f)
	switch {
	case len(given) == 0:
		return fail("", "gives none of exact, prefix, suffix, all, any, not and cesql")
	case len(given) > 1:
		return fail("", "gives "+strings.Join(given, " and ")+"; a filter has one dialect")
	case depth > MaxDepth:
		return fail(given[0], fmt.Sprintf("is more than %d filters deep", MaxDepth))
	}
	if err := c.counted(path, given[0]); err != nil {
		return node{}, err
	}
	path += "." + given[0]
	switch given[0] {
	case "exact":
		return c.attributes(exact, f.Exact, path)
	case "prefix":
		return c.attributes(prefix, f.Prefix, path)
	case "suffix":
		return c.attributes(suffix, f.Suffix, path)
	case "all":
		return c.list(all, f.All, path, depth)
	case "any":
		return c.list(some, f.Any, path, depth)
	case "not":
		kid, err := c.filter(f.Not, path, depth+1)
		return node{op: not, kids: []node{kid}}, err
	default:
		expression, err := parse(f.CESQL)
		if err != nil {
			err.Path, err.Dialect = path, given[0]
			return node{}, err
		}
		return node{op: sql, expression: expression}, nil
	}
}

func (c *compiler) counted(path, dialect string) error {
	if c.count++; c.count > MaxFilters {
		return &Error{Path: path, Dialect: dialect, Text: fmt.Sprintf("there are more than %d filters, with those inside of others", MaxFilters)}
	}
	return nil
}

func (c *compiler) list(o op, filters []plan.Filter, path string, depth int) (node, error) {
	n := node{op: o, kids: make([]node, 0, len(filters))}
	for i := range filters {
		kid, err := c.filter(&filters[i], path+"["+strconv.Itoa(i)+"]", depth+1)
		if err != nil {
			return node{}, err
		}
		n.kids = append(n.kids, kid)
	}
	return n.flat(), nil
}

func (c *compiler) attributes(o op, matches []plan.Match, path string) (node, error) {
	dialect := path[strings.LastIndexByte(path, '.')+1:]
	n := node{op: all, kids: make([]node, 0, len(matches))}
	for _, m := range matches {
		if err := c.counted(path, dialect); err != nil {
			return node{}, err
		}
		switch {
		case !validName(m.Attribute):
			return node{}, &Error{Path: path, Dialect: dialect, Text: strconv.Quote(m.Attribute) + " is not the name of an attribute: lower-case letters and digits"}
		case m.Value == "" && o != exact:
			return node{}, &Error{Path: path + "." + m.Attribute, Dialect: dialect, Text: "is empty: give what the value begins or ends with"}
		}
		kid := node{op: o, name: m.Attribute, value: m.Value}
		if m.Value == "" {
			kid.op = present
		}
		n.kids = append(n.kids, kid)
	}
	return n.flat(), nil
}

// flat is the same with less to walk.
func (n node) flat() node {
	if (n.op == all || n.op == some) && len(n.kids) == 1 {
		return n.kids[0]
	}
	return n
}

func dialects(f *plan.Filter) (given []string) {
	for _, d := range []struct {
		name  string
		given bool
	}{
		{"exact", len(f.Exact) > 0},
		{"prefix", len(f.Prefix) > 0},
		{"suffix", len(f.Suffix) > 0},
		{"all", len(f.All) > 0},
		{"any", len(f.Any) > 0},
		{"not", f.Not != nil},
		{"cesql", f.CESQL != ""},
	} {
		if d.given {
			given = append(given, d.name)
		}
	}
	return given
}

// validName: CloudEvents 1.0, Naming Conventions.
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
