package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

func order() *event.Event {
	return &event.Event{
		ID: "42", Source: "/shop/eu", Type: "order.created", Subject: "orders/7", Time: "2026-01-02T03:04:05Z",
		Extensions: []event.Attribute{{Name: "amount", Value: "12"}, {Name: "empty", Value: ""}, {Name: "tenant", Value: "acme"}},
	}
}

func one(attribute, value string) []plan.Match {
	return []plan.Match{{Attribute: attribute, Value: value}}
}

func TestDialects(t *testing.T) {
	exactly := func(a, v string) plan.Filter { return plan.Filter{Exact: one(a, v)} }
	yes, no := exactly("id", "42"), exactly("id", "43")
	for _, tc := range []struct {
		name    string
		filters []plan.Filter
		want    bool
	}{
		{"no filter", nil, true},
		{"exact", []plan.Filter{exactly("type", "order.created")}, true},
		{"exact, other value", []plan.Filter{exactly("type", "Order.created")}, false},
		{"exact, any value", []plan.Filter{exactly("subject", "")}, true},
		{"exact, any value of an empty extension", []plan.Filter{exactly("empty", "")}, true},
		{"exact, any value of what is not there", []plan.Filter{exactly("dataschema", "")}, false},
		{"exact, specversion", []plan.Filter{exactly("specversion", "1.0")}, true},
		{"exact, two", []plan.Filter{{Exact: []plan.Match{{Attribute: "id", Value: "42"}, {Attribute: "tenant", Value: "acme"}}}}, true},
		{"exact, one of two", []plan.Filter{{Exact: []plan.Match{{Attribute: "id", Value: "42"}, {Attribute: "tenant", Value: "other"}}}}, false},
		{"prefix", []plan.Filter{{Prefix: one("type", "order.")}}, true},
		{"prefix, the whole", []plan.Filter{{Prefix: one("type", "order.created")}}, true},
		{"prefix, longer", []plan.Filter{{Prefix: one("type", "order.created!")}}, false},
		{"prefix, not there", []plan.Filter{{Prefix: one("dataschema", "h")}}, false},
		{"suffix", []plan.Filter{{Suffix: one("source", "/eu")}}, true},
		{"suffix, other", []plan.Filter{{Suffix: one("source", "/us")}}, false},
		{"all", []plan.Filter{{All: []plan.Filter{yes, yes}}}, true},
		{"all but one", []plan.Filter{{All: []plan.Filter{yes, no}}}, false},
		{"any", []plan.Filter{{Any: []plan.Filter{no, yes}}}, true},
		{"none of any", []plan.Filter{{Any: []plan.Filter{no, no}}}, false},
		{"not", []plan.Filter{{Not: &no}}, true},
		{"not, what is not there", []plan.Filter{{Not: &plan.Filter{Prefix: one("dataschema", "h")}}}, true},
		{"cesql", []plan.Filter{{CESQL: "type LIKE 'order.%' AND amount > 10"}}, true},
		{"cesql, false", []plan.Filter{{CESQL: "amount > 12"}}, false},
		{"cesql, attribute not there", []plan.Filter{{CESQL: "other = 'x'"}}, false},
		{"cesql, exists", []plan.Filter{{CESQL: "EXISTS tenant AND NOT EXISTS other"}}, true},
		{"cesql, the source as it is", []plan.Filter{{CESQL: "source = '/shop/eu'"}}, true},
		{"cesql, a string that says true", []plan.Filter{{CESQL: "'TRUE'"}}, true},
		{"cesql, a number", []plan.Filter{{CESQL: "1"}}, true},
		{"cesql, a string", []plan.Filter{{CESQL: "tenant"}}, false},
		{"cesql, an unknown function", []plan.Filter{{CESQL: "FOO(tenant)"}}, false},
		{"cesql, not an error", []plan.Filter{{Not: &plan.Filter{CESQL: "other = 'x'"}}}, true},
		{"all of the list", []plan.Filter{yes, {Prefix: one("type", "order.")}}, true},
		{"not all of the list", []plan.Filter{yes, no}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := Compile(tc.filters)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Match(order()); got != tc.want {
				t.Errorf("Match = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestFiltersWinOverFilter(t *testing.T) {
	attributes := one("id", "43")
	for _, tc := range []struct {
		name    string
		filters []plan.Filter
		old     []plan.Match
		want    bool
	}{
		{"both", []plan.Filter{{Exact: one("id", "42")}}, attributes, true},
		{"filter", nil, attributes, false},
		{"neither", nil, nil, true},
	} {
		m, err := Compile(Of(tc.filters, tc.old))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Match(order()); got != tc.want {
			t.Errorf("%s: Match = %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestWhatDoesNotCompileMatchesNothing(t *testing.T) {
	good := plan.Filter{Exact: one("id", "42")}
	deep := good
	for range MaxDepth {
		deep = plan.Filter{Not: &plan.Filter{Any: []plan.Filter{deep}}}
	}
	for _, tc := range []struct {
		name    string
		filters []plan.Filter
		want    Error
		text    string
	}{
		{"no dialect", []plan.Filter{good, {}}, Error{Path: "[1]"}, "gives none of"},
		{"two dialects", []plan.Filter{{Prefix: one("a", "b"), CESQL: "TRUE"}}, Error{Path: "[0]"}, "gives prefix and cesql"},
		{"a name", []plan.Filter{{Exact: one("Type", "b")}}, Error{Path: "[0].exact", Dialect: "exact"}, `"Type" is not the name`},
		{"an empty prefix", []plan.Filter{{Prefix: one("type", "")}}, Error{Path: "[0].prefix.type", Dialect: "prefix"}, "is empty"},
		{"inside", []plan.Filter{good, {Any: []plan.Filter{good, {Not: &plan.Filter{Suffix: one("type", "")}}}}},
			Error{Path: "[1].any[1].not.suffix.type", Dialect: "suffix"}, "is empty"},
		{"cesql", []plan.Filter{{CESQL: "type = "}}, Error{Path: "[0].cesql", Dialect: "cesql", Position: 8}, "at character 8"},
		{"cesql, in the middle", []plan.Filter{{All: []plan.Filter{{CESQL: "type = 'ä' ! subject"}}}},
			Error{Path: "[0].all[0].cesql", Dialect: "cesql", Position: 12}, "filters[0].all[0].cesql: at character 12"},
		{"cesql, second line", []plan.Filter{{CESQL: "type = 'a'\nAND AND"}}, Error{Path: "[0].cesql", Dialect: "cesql", Position: 16}, ""},
		{"cesql, a character", []plan.Filter{{CESQL: "id = #1"}}, Error{Path: "[0].cesql", Dialect: "cesql", Position: 6}, ""},
		{"cesql, two expressions", []plan.Filter{{CESQL: "TRUE FALSE"}}, Error{Path: "[0].cesql", Dialect: "cesql", Position: 6}, ""},
		{"cesql, a number", []plan.Filter{{CESQL: "1 = 99999999999"}}, Error{Path: "[0].cesql", Dialect: "cesql"}, "out of range"},
		{"cesql, not UTF-8", []plan.Filter{{CESQL: "id = '\xff'"}}, Error{Path: "[0].cesql", Dialect: "cesql"}, "UTF-8"},
		{"cesql, long", []plan.Filter{{CESQL: strings.Repeat(" ", MaxExpression) + "TRUE"}}, Error{Path: "[0].cesql", Dialect: "cesql"}, "longer than"},
		{"cesql, brackets", []plan.Filter{{CESQL: strings.Repeat("(", 65) + "1" + strings.Repeat(")", 65)}},
			Error{Path: "[0].cesql", Dialect: "cesql", Position: 65}, "brackets"},
		{"deep", []plan.Filter{deep}, Error{Path: "[0]" + strings.Repeat(".not.any[0]", MaxDepth/2), Dialect: "not"}, "deep"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := Compile(tc.filters)
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if got.Path != tc.want.Path || got.Dialect != tc.want.Dialect || got.Position != tc.want.Position || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%+v (%v), want %+v with %q", *got, err, tc.want, tc.text)
			}
			if m.Match(order()) {
				t.Error("it matches")
			}
		})
	}
}

func TestManyFiltersAreRefused(t *testing.T) {
	filters := slices.Repeat([]plan.Filter{{Exact: one("id", "42")}}, MaxFilters)
	m, err := Compile(filters)
	if err == nil || m.Match(order()) {
		t.Errorf("%d filters with as many attributes compile: %v", MaxFilters, err)
	}
	if m, err = Compile(filters[:MaxFilters/2]); err != nil || !m.Match(order()) {
		t.Errorf("half of it does not: %v", err)
	}
}

// TestMatchAllocatesNothing counts for all dialects but cesql, of which the event is made once.
func TestMatchAllocatesNothing(t *testing.T) {
	m := compiled(t, plan.Filter{Exact: one("tenant", "acme")}, plan.Filter{Any: []plan.Filter{
		{Prefix: one("type", "x")}, {All: []plan.Filter{{Suffix: one("source", "/eu")}, {Not: &plan.Filter{Exact: one("amount", "")}}}}, {Exact: one("id", "42")}}})
	e := order()
	if n := testing.AllocsPerRun(100, func() {
		if !m.Match(e) {
			t.Fatal("no match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func compiled(t testing.TB, filters ...plan.Filter) *Matcher {
	t.Helper()
	m, err := Compile(filters)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAgainstTheDefinition compares with an evaluator that reads the filters as they are written.
func TestAgainstTheDefinition(t *testing.T) {
	names := []string{"id", "type", "source", "subject", "tenant", "amount", "none"}
	values := []string{"a", "ab", "abc", "b", "bc"}
	match := rapid.Custom(func(t *rapid.T) plan.Match {
		return plan.Match{Attribute: rapid.SampledFrom(names).Draw(t, "name"), Value: rapid.SampledFrom(values).Draw(t, "value")}
	})
	matches := rapid.SliceOfN(match, 1, 3)
	var filters func(depth int) *rapid.Generator[plan.Filter]
	filters = func(depth int) *rapid.Generator[plan.Filter] {
		return rapid.Custom(func(t *rapid.T) plan.Filter {
			kinds := 4
			if depth > 0 {
				kinds = 7
			}
			switch rapid.IntRange(0, kinds-1).Draw(t, "dialect") {
			case 0:
				m := matches.Draw(t, "exact")
				if rapid.Bool().Draw(t, "any value") {
					m[0].Value = ""
				}
				return plan.Filter{Exact: m}
			case 1:
				return plan.Filter{Prefix: matches.Draw(t, "prefix")}
			case 2:
				return plan.Filter{Suffix: matches.Draw(t, "suffix")}
			case 3:
				m := match.Draw(t, "cesql")
				o := rapid.SampledFrom([]string{"%s = '%s'", "%s LIKE '%s%%'", "%s LIKE '%%%s'"}).Draw(t, "operator")
				return plan.Filter{CESQL: fmt.Sprintf(o, m.Attribute, m.Value)}
			case 4:
				return plan.Filter{All: rapid.SliceOfN(filters(depth-1), 1, 3).Draw(t, "all")}
			case 5:
				return plan.Filter{Any: rapid.SliceOfN(filters(depth-1), 1, 3).Draw(t, "any")}
			}
			f := filters(depth-1).Draw(t, "not")
			return plan.Filter{Not: &f}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(filters(3), 0, 3).Draw(t, "filters")
		m, err := Compile(list)
		if err != nil {
			t.Fatal(err)
		}
		value := rapid.SampledFrom(values)
		for range 8 {
			e := &event.Event{ID: value.Draw(t, "id"), Type: value.Draw(t, "type"), Source: value.Draw(t, "source")}
			if rapid.Bool().Draw(t, "subject there") {
				e.Subject = value.Draw(t, "subject")
			}
			for _, name := range []string{"tenant", "amount"} {
				if rapid.Bool().Draw(t, name+" there") {
					e.SetExtension(name, value.Draw(t, name))
				}
			}
			want := !slices.ContainsFunc(list, func(f plan.Filter) bool { return !holds(f, e) })
			s := SubjectOf(e)
			if got := []bool{m.Match(e), m.MatchSubject(s), m.MatchSubject(s)}; slices.Contains(got, !want) {
				t.Fatalf("%+v: %v, want %v", e, got, want)
			}
		}
	})
}

// holds is the definition.
func holds(f plan.Filter, e *event.Event) bool {
	every := func(matches []plan.Match, fits func(value, want string) bool) bool {
		for _, m := range matches {
			if value, there := e.Get(m.Attribute); !there || !fits(value, m.Value) {
				return false
			}
		}
		return true
	}
	switch {
	case f.Exact != nil:
		return every(f.Exact, func(value, want string) bool { return want == "" || value == want })
	case f.Prefix != nil:
		return every(f.Prefix, strings.HasPrefix)
	case f.Suffix != nil:
		return every(f.Suffix, strings.HasSuffix)
	case f.All != nil:
		return !slices.ContainsFunc(f.All, func(f plan.Filter) bool { return !holds(f, e) })
	case f.Any != nil:
		return slices.ContainsFunc(f.Any, func(f plan.Filter) bool { return holds(f, e) })
	case f.Not != nil:
		return !holds(*f.Not, e)
	}
	name, rest, _ := strings.Cut(f.CESQL, " ")
	o, quoted, _ := strings.Cut(rest, " ")
	operand := strings.Trim(quoted, "'")
	return every(one(name, strings.Trim(operand, "%")), func(value, want string) bool {
		switch {
		case o == "=":
			return value == want
		case strings.HasSuffix(operand, "%"):
			return strings.HasPrefix(value, want)
		}
		return strings.HasSuffix(value, want)
	})
}

func FuzzCESQL(f *testing.F) {
	for _, seed := range []string{"TRUE", "type = 'a' AND NOT EXISTS b", "id IN ('a', 'b')", "LEFT(id, -1)", "'a", "((", "-2147483648 / -1", "ABS(-2147483648)", "a LIKE '%\\%_'", "SUBSTRING('', 2)", "\"\\\"\"", "- - 1", "é = 1"} {
		f.Add(seed)
	}
	e := order()
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Compile([]plan.Filter{{CESQL: text}})
		if err == nil && m == Nothing || err != nil && m != Nothing {
			t.Fatalf("%q: %v with %v", text, m, err)
		}
		if err != nil && m.Match(e) {
			t.Fatalf("%q does not parse and matches", text)
		}
		var bad *Error
		if errors.As(err, &bad) && bad.Position > len([]rune(text))+1 {
			t.Fatalf("%q: error at character %d", text, bad.Position)
		}
		if first := m.Match(e); first != m.Match(e) {
			t.Fatalf("%q is this and that", text)
		}
	})
}
