package event

import (
	"fmt"
	"slices"
	"strings"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// ToSDK is e as the CloudEvents SDK's type, for code that wants that one. The data is shared.
func (e *Event) ToSDK() (sdk.Event, error) {
	s := sdk.New(sdk.CloudEventsVersionV1)
	s.SetID(e.ID)
	s.SetSource(e.Source)
	s.SetType(e.Type)
	if e.Subject != "" {
		s.SetSubject(e.Subject)
	}
	if e.DataContentType != "" {
		s.SetDataContentType(e.DataContentType)
	}
	if e.DataSchema != "" {
		s.SetDataSchema(e.DataSchema)
	}
	if e.Time != "" {
		t, err := types.ParseTime(e.Time)
		if err != nil {
			return s, &Error{"time", "is not a time as in RFC 3339"}
		}
		s.SetTime(t)
	}
	for _, a := range e.Extensions {
		s.SetExtension(a.Name, a.Value)
	}
	s.DataEncoded = e.Data
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("event %s of %s: %w", e.ID, e.Source, err)
	}
	return s, nil
}

// FromSDK is an event of the CloudEvents SDK, with its extensions in canonical form.
func FromSDK(s sdk.Event) (*Event, error) {
	e := &Event{
		ID: s.ID(), Source: s.Source(), Type: s.Type(), Subject: s.Subject(),
		DataContentType: s.DataContentType(), DataSchema: s.DataSchema(), Data: s.Data(),
	}
	if t := s.Time(); !t.IsZero() {
		e.Time = types.FormatTime(t)
	}
	for name, value := range s.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			return nil, &Error{name, "has no canonical form: " + err.Error()}
		}
		e.Extensions = append(e.Extensions, Attribute{name, text})
	}
	slices.SortFunc(e.Extensions, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	return e, e.Validate()
}
