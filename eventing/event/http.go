package event

import (
	"net/http"
	"slices"
	"strings"
)

// Mode is how a message carries events.
type Mode int

// The modes of the CloudEvents HTTP binding.
const (
	Binary     Mode = iota // attributes as headers, the data as the body
	Structured             // one event as JSON
	Batched                // several events as a JSON array
	Unknown                // a format of CloudEvents that is not JSON
)

// ModeOf reads the mode from a Content-Type.
func ModeOf(contentType string) Mode {
	const prefix = "application/cloudevents"
	if len(contentType) < len(prefix) || !strings.EqualFold(contentType[:len(prefix)], prefix) {
		return Binary
	}
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/cloudevents+json", "application/cloudevents":
		return Structured
	case "application/cloudevents-batch+json", "application/cloudevents-batch":
		return Batched
	}
	return Unknown
}

// Carried is whether the message with these headers says that it carries an event: an answer
// without one may have a body too.
func Carried(h http.Header) bool {
	return len(h["Ce-Specversion"]) > 0 || ModeOf(h.Get("Content-Type")) != Binary
}

// Limits bound what a message may hold; fields that are zero do not.
type Limits struct {
	EventBytes     int // of one event: Size
	AttributeBytes int // of the names and values of an event's attributes
	Batch          int // events in a message
}

// DefaultLimits are the ones of the ingress. CloudEvents asks every intermediary to take
// events of 64 KiB; the store's headers end at 64 KiB for good.
var DefaultLimits = Limits{EventBytes: 1 << 20, AttributeBytes: 32 << 10, Batch: 1000}

// TooLargeError is an event that is larger than the limits allow.
type TooLargeError struct{ Reason string }

func (e *TooLargeError) Error() string { return e.Reason }

// Size is the bytes of an event: its data and the names and values of its attributes.
func (e *Event) Size() int { return len(e.Data) + e.attributeBytes() }

func (e *Event) attributeBytes() int {
	n := len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.Time) + len(e.DataContentType) + len(e.DataSchema)
	for _, a := range e.Extensions {
		n += len(a.Name) + len(a.Value)
	}
	return n
}

func (e *Event) check(l Limits) error {
	if err := e.Validate(); err != nil {
		return err
	}
	attributes := e.attributeBytes()
	if l.AttributeBytes > 0 && attributes > l.AttributeBytes {
		return &TooLargeError{"the attributes of the event are larger than is allowed"}
	}
	if l.EventBytes > 0 && attributes+len(e.Data) > l.EventBytes {
		return &TooLargeError{"the event is larger than is allowed"}
	}
	return nil
}

// FromHTTP reads the events of a request or an answer: one in binary and structured mode, any
// number in batched mode. An event that is not one makes the whole message refused, with an
// *Error or a *TooLargeError. The events hold on to body, and nobody may change it any more.
func FromHTTP(h http.Header, body []byte, l Limits) ([]*Event, error) {
	switch contentType := h.Get("Content-Type"); ModeOf(contentType) {
	case Batched:
		return FromBatch(body, l)
	case Structured:
		e, err := FromJSON(body, l)
		if err != nil {
			return nil, err
		}
		return []*Event{e}, nil
	case Unknown:
		return nil, &Error{"", "is in a format that is not known: send application/cloudevents+json, application/cloudevents-batch+json, or ce- headers"}
	default:
		e, err := FromBinary(h, body, l)
		if err != nil {
			return nil, err
		}
		return []*Event{e}, nil
	}
}

// FromBinary reads an event in binary mode.
func FromBinary(h http.Header, body []byte, l Limits) (*Event, error) {
	e := &Event{Data: body}
	version, contentType, total := "", "", 0
	for key, values := range h {
		if len(key) < 3 || key[:3] != "Ce-" {
			continue
		}
		if len(values) != 1 {
			return nil, &Error{shown(strings.ToLower(key[3:])), "is given twice"}
		}
		if total += len(key) + len(values[0]); l.AttributeBytes > 0 && total > 3*l.AttributeBytes {
			return nil, &TooLargeError{"the attributes of the event are larger than is allowed"}
		}
		value, err := DecodeHeader(values[0])
		if err != nil {
			return nil, &Error{shown(strings.ToLower(key[3:])), err.Error()}
		}
		switch key {
		case "Ce-Specversion":
			version = value
		case "Ce-Id":
			e.ID = value
		case "Ce-Source":
			e.Source = value
		case "Ce-Type":
			e.Type = value
		case "Ce-Subject":
			e.Subject, err = given("subject", value)
		case "Ce-Time":
			e.Time, err = given("time", value)
		case "Ce-Dataschema":
			e.DataSchema, err = given("dataschema", value)
		case "Ce-Datacontenttype":
			contentType = value
		default:
			name := strings.ToLower(key[3:])
			if err := checkName(name); err != nil {
				return nil, err
			}
			if e.Extensions == nil {
				e.Extensions = make([]Attribute, 0, 4)
			}
			e.Extensions = append(e.Extensions, Attribute{name, value})
		}
		if err != nil {
			return nil, err
		}
	}
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	switch e.DataContentType = h.Get("Content-Type"); {
	case contentType == "" || contentType == e.DataContentType:
	case e.DataContentType == "":
		e.DataContentType = contentType
	default:
		return nil, &Error{"datacontenttype", "differs from the header Content-Type: in binary mode send Content-Type alone"}
	}
	if len(e.Extensions) > 1 {
		slices.SortFunc(e.Extensions, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	}
	return e, e.check(l)
}

// given refuses an attribute that is there and empty, which CloudEvents does not allow for its own.
func given(name, value string) (string, error) {
	if value == "" {
		return "", &Error{name, "is empty"}
	}
	return value, nil
}

func checkVersion(version string) error {
	switch version {
	case "1.0":
		return nil
	case "":
		return &Error{"specversion", "is missing"}
	}
	return &Error{"specversion", "is " + shown(version) + ", and only 1.0 is taken"}
}

// ToHTTP sets the headers of e in binary mode; the body is e.Data. Headers that begin with
// ce- and were there before stay.
func (e *Event) ToHTTP(h http.Header) {
	values := make([]string, 0, 8+len(e.Extensions))
	set := func(key, value string) {
		values = append(values, value)
		h[key] = values[len(values)-1 : len(values) : len(values)]
	}
	set("Ce-Specversion", "1.0")
	set("Ce-Id", EncodeHeader(e.ID))
	set("Ce-Source", EncodeHeader(e.Source))
	set("Ce-Type", EncodeHeader(e.Type))
	if e.Subject != "" {
		set("Ce-Subject", EncodeHeader(e.Subject))
	}
	if e.Time != "" {
		set("Ce-Time", EncodeHeader(e.Time))
	}
	if e.DataSchema != "" {
		set("Ce-Dataschema", EncodeHeader(e.DataSchema))
	}
	if e.DataContentType != "" {
		set("Content-Type", e.DataContentType)
	}
	for _, a := range e.Extensions {
		set(headerOf(a.Name), EncodeHeader(a.Value))
	}
}

// headerOf is the canonical header of an extension, such as Ce-Tenant.
func headerOf(name string) string {
	switch name {
	case "traceparent":
		return "Ce-Traceparent"
	case "tracestate":
		return "Ce-Tracestate"
	case "knativebrokerttl":
		return "Ce-Knativebrokerttl"
	}
	if c := name[0]; 'a' <= c && c <= 'z' {
		return "Ce-" + string(rune(c-'a'+'A')) + name[1:]
	}
	return "Ce-" + name
}
