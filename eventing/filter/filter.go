package filter

import (
	"strings"

	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// Matcher is a list of filters that all have to hold. It is not changed once made, and may be used from several goroutines.
type Matcher struct {
	root node
}

// Nothing matches no event.
var Nothing = &Matcher{root: node{op: never}}

// Match says whether every filter holds for the event. A Matcher without filters matches every event, nil none.
func (m *Matcher) Match(e *event.Event) bool {
	s := Subject{event: e}
	return m.MatchSubject(&s)
}

// MatchSubject is Match for an event that many Matchers see: what they need of it is made once.
func (m *Matcher) MatchSubject(s *Subject) bool {
	return m != nil && m.root.match(s)
}

// All says that the Matcher has no filter, so that it matches every event.
func (m *Matcher) All() bool { return m != nil && m.root.op == all && len(m.root.kids) == 0 }

// Subject is one event that is matched. It is used by one goroutine, and the event is not changed meanwhile.
type Subject struct {
	event *event.Event
	sql   sqlEvent
}

// SubjectOf begins to match an event.
func SubjectOf(e *event.Event) *Subject { return &Subject{event: e} }

// Of is what a Trigger's filter says: spec.filters when there are any, and otherwise the attributes
// of spec.filter, of which every one has to be equal; "" is any value.
func Of(filters []plan.Filter, attributes []plan.Match) []plan.Filter {
	switch {
	case len(filters) > 0:
		return filters
	case len(attributes) > 0:
		return []plan.Filter{{Exact: attributes}}
	}
	return nil
}

type op uint8

const (
	never op = iota
	all
	some
	not
	present
	exact
	prefix
	suffix
	sql
)

// node is one filter, or one attribute of it.
type node struct {
	op         op
	name       string // of the attribute
	value      string
	kids       []node
	expression expression
}

func (n *node) match(s *Subject) bool {
	switch n.op {
	case all:
		for i := range n.kids {
			if !n.kids[i].match(s) {
				return false
			}
		}
		return true
	case some:
		for i := range n.kids {
			if n.kids[i].match(s) {
				return true
			}
		}
		return false
	case not:
		return !n.kids[0].match(s)
	case sql:
		return n.expression.holds(s)
	case present, exact, prefix, suffix:
		return n.compare(s.event.Get(n.name))
	}
	return false
}

func (n *node) compare(value string, there bool) bool {
	switch n.op {
	case exact:
		return there && value == n.value
	case prefix:
		return there && strings.HasPrefix(value, n.value)
	case suffix:
		return there && strings.HasSuffix(value, n.value)
	}
	return there
}
