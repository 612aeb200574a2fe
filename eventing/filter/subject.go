package filter

import (
	"time"

	sdk "github.com/cloudevents/sdk-go/v2"

	"ebb.dev/ebb/eventing/event"
)

// sqlEvent is the event as cesql wants it, made when the first expression asks.
type sqlEvent struct {
	made  bool
	event sdk.Event
}

func (q *sqlEvent) of(s *Subject) sdk.Event {
	if !q.made {
		q.event, q.made = sdk.Event{Context: &attributes{e: s.event}}, true
	}
	return q.event
}

// attributes gives the SDK an event's attributes as they are: what is kept in the SDK's own context is parsed
// and formatted for every look, and its extensions are copied. Expressions cannot see the data. Extensions are strings:
// HTTP's binary mode has no other type, and CESQL casts them where it compares.
type attributes struct {
	sdk.EventContextV1 // empty; for the methods that expressions do not use

	e          *event.Event
	extensions map[string]any
}

func (a *attributes) GetSpecVersion() string     { return "1.0" }
func (a *attributes) GetID() string              { return a.e.ID }
func (a *attributes) GetSource() string          { return a.e.Source }
func (a *attributes) GetType() string            { return a.e.Type }
func (a *attributes) GetSubject() string         { return a.e.Subject }
func (a *attributes) GetDataContentType() string { return a.e.DataContentType }
func (a *attributes) GetDataSchema() string      { return a.e.DataSchema }

func (a *attributes) GetTime() time.Time {
	at, _ := time.Parse(time.RFC3339Nano, a.e.Time)
	return at
}

func (a *attributes) GetExtensions() map[string]any {
	if a.extensions == nil && len(a.e.Extensions) > 0 {
		a.extensions = make(map[string]any, len(a.e.Extensions))
		for _, x := range a.e.Extensions {
			a.extensions[x.Name] = x.Value
		}
	}
	return a.extensions
}

func (a *attributes) GetExtension(name string) (any, error) {
	return a.GetExtensions()[name], nil
}
