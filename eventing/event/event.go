package event

import (
	"slices"
	"strings"
)

// Event is one CloudEvent of version 1.0. An Event that others may hold is not changed:
// Clone first.
type Event struct {
	ID, Source, Type string // never ""
	Subject          string // "": not there, as in the fields below
	Time             string // RFC 3339
	DataContentType  string
	DataSchema       string
	Extensions       []Attribute // by name, each once
	Data             []byte
}

// Attribute is an extension: its name, lower-case letters and digits, and its value in
// canonical form (CloudEvents 1.0, Type System).
type Attribute struct{ Name, Value string }

// Get is the value of the context attribute with that name, and whether the event has it.
func (e *Event) Get(name string) (string, bool) {
	switch name {
	case "specversion":
		return "1.0", true
	case "id":
		return e.ID, true
	case "source":
		return e.Source, true
	case "type":
		return e.Type, true
	case "subject":
		return e.Subject, e.Subject != ""
	case "time":
		return e.Time, e.Time != ""
	case "datacontenttype":
		return e.DataContentType, e.DataContentType != ""
	case "dataschema":
		return e.DataSchema, e.DataSchema != ""
	}
	if i, found := e.find(name); found {
		return e.Extensions[i].Value, true
	}
	return "", false
}

// SetExtension sets one extension, in its place by name.
func (e *Event) SetExtension(name, value string) {
	i, found := e.find(name)
	if found {
		e.Extensions[i].Value = value
		return
	}
	e.Extensions = slices.Insert(e.Extensions, i, Attribute{name, value})
}

// RemoveExtension takes one extension away, if it is there.
func (e *Event) RemoveExtension(name string) {
	if i, found := e.find(name); found {
		e.Extensions = slices.Delete(e.Extensions, i, i+1)
	}
}

// Clone has extensions of its own; the data is shared, because nobody changes it.
func (e *Event) Clone() *Event {
	c := *e
	c.Extensions = slices.Clone(e.Extensions)
	return &c
}

func (e *Event) find(name string) (int, bool) {
	return slices.BinarySearchFunc(e.Extensions, name, func(a Attribute, name string) int { return strings.Compare(a.Name, name) })
}
