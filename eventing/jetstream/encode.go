package jetstream

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"ebb.dev/ebb/eventing/event"
)

// Attributes are headers ce-NAME, with values percent-encoded as in the HTTP binding; the
// data is the payload. (The CloudEvents NATS binding 1.0.2 has structured mode alone, from a
// time when NATS had no headers; this is the binary mode of its successor.)
const attributePrefix = "ce-"

// maxHeader is where the server's headers end.
const maxHeader = 1<<16 - 1

func encode(subject string, e *event.Event) *nats.Msg {
	values := make([]string, 0, 9+len(e.Extensions))
	h := make(nats.Header, 9+len(e.Extensions))
	set := func(key, value string) {
		values = append(values, value)
		h[key] = values[len(values)-1 : len(values) : len(values)]
	}
	set(nats.MsgIdHdr, messageID(e))
	set("ce-specversion", "1.0")
	set("ce-id", event.EncodeHeader(e.ID))
	set("ce-source", event.EncodeHeader(e.Source))
	set("ce-type", event.EncodeHeader(e.Type))
	if e.Subject != "" {
		set("ce-subject", event.EncodeHeader(e.Subject))
	}
	if e.Time != "" {
		set("ce-time", event.EncodeHeader(e.Time))
	}
	if e.DataContentType != "" {
		set("ce-datacontenttype", event.EncodeHeader(e.DataContentType))
	}
	if e.DataSchema != "" {
		set("ce-dataschema", event.EncodeHeader(e.DataSchema))
	}
	for _, a := range e.Extensions {
		set(attributePrefix+a.Name, event.EncodeHeader(a.Value))
	}
	return &nats.Msg{Subject: subject, Header: h, Data: e.Data}
}

// headerBytes is what the headers of a message take on the wire.
func headerBytes(h nats.Header) int {
	n := len("NATS/1.0\r\n\r\n")
	for key, values := range h {
		n += len(key) + len(": \r\n")
		for _, v := range values {
			n += len(v)
		}
	}
	return n
}

func decode(m *nats.Msg) (*event.Event, error) {
	e := &event.Event{Data: m.Data}
	for key, values := range m.Header {
		name, found := strings.CutPrefix(key, attributePrefix)
		if !found || len(values) == 0 {
			continue
		}
		value, err := event.DecodeHeader(values[0])
		if err != nil {
			return nil, fmt.Errorf("header %s %w", key, err)
		}
		switch name {
		case "specversion":
		case "id":
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "subject":
			e.Subject = value
		case "time":
			e.Time = value
		case "datacontenttype":
			e.DataContentType = value
		case "dataschema":
			e.DataSchema = value
		default:
			if e.Extensions == nil {
				e.Extensions = make([]event.Attribute, 0, 4)
			}
			e.Extensions = append(e.Extensions, event.Attribute{Name: name, Value: value})
		}
	}
	if e.ID == "" || e.Source == "" || e.Type == "" {
		return nil, fmt.Errorf("message on %s is no event: id, source or type is missing", m.Subject)
	}
	if len(e.Extensions) > 1 {
		slices.SortFunc(e.Extensions, func(a, b event.Attribute) int { return strings.Compare(a.Name, b.Name) })
	}
	return e, nil
}
