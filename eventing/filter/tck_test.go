package filter

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	sdk "github.com/cloudevents/sdk-go/v2"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// cases of the public test kit, of which the SDK's module has a copy.
type kit struct {
	Name  string
	Tests []struct {
		Name, Expression, Error string
		Result                  any
		Event                   *sdk.Event
		EventOverrides          map[string]any
	}
}

var kinds = map[string]func(error) bool{
	"math": sqlerrors.IsMathError, "cast": sqlerrors.IsCastError, "missingFunction": sqlerrors.IsMissingFunctionError,
	"functionEvaluation": sqlerrors.IsFunctionEvaluationError, "missingAttribute": sqlerrors.IsMissingAttributeError, "generic": sqlerrors.IsGenericError,
}

// asText are cases that ask for the type of an extension. HTTP's binary mode has none, so here the value is the same in its canonical form.
var asText = map[string]bool{"Access to optional boolean extension": true, "Access to optional integer extension": true}

// TestPublicKit runs every case of the CESQL test kit through this package's parser, and the event as this package gives it to the SDK.
func TestPublicKit(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudevents/sdk-go/sql/v2").Output()
	if err != nil {
		t.Fatalf("where the SDK's module is: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "test", "tck", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the SDK's module has no test kit: %v", err)
	}
	total, passed := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var k kit
		if err := yaml.Unmarshal(text, &k); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, tc := range k.Tests {
			total++
			if t.Run(k.Name+"/"+tc.Name, func(t *testing.T) {
				x, failed := parse(tc.Expression)
				if tc.Error == "parse" || failed != nil {
					if tc.Error != "parse" || failed == nil {
						t.Errorf("%s: %v, want error %q", tc.Expression, failed, tc.Error)
					}
					return
				}
				e := kitEvent(tc.Event, tc.EventOverrides)
				got, err := x.evaluate(SubjectOf(e).sqlNow())
				want := tc.Result
				if n, is := want.(float64); is {
					want = int32(n)
				}
				if asText[tc.Name] {
					want = fmt.Sprint(want)
				}
				if got != want || (err != nil) != (tc.Error != "") || err != nil && !kinds[tc.Error](err) {
					t.Errorf("%s: %v (%T), error %v; want %v, error %q", tc.Expression, got, got, err, want, tc.Error)
				}
				m := compiled(t, plan.Filter{CESQL: tc.Expression})
				if match := m.Match(e); match && err != nil {
					t.Errorf("%s: fails, and matches", tc.Expression)
				}
			}) {
				passed++
			}
		}
	}
	t.Logf("the public CESQL test kit: %d of %d cases, %d of them with the value as text", passed, total, len(asText))
	if total < 275 {
		t.Errorf("%d cases, want 275: is the kit whole?", total)
	}
}

func (s *Subject) sqlNow() sdk.Event { return s.sql.of(s) }

// kitEvent is a case's event as it would have come by HTTP.
func kitEvent(given *sdk.Event, overrides map[string]any) *event.Event {
	e := &event.Event{
		ID: "full-event", Source: "http://example.com/source", Type: "com.example.FullEvent", Subject: "topic", Time: "2020-03-21T12:34:56.78Z",
		DataContentType: "text/json", DataSchema: "http://example.com/schema",
		Extensions: []event.Attribute{
			{Name: "exbinary", Value: base64.StdEncoding.EncodeToString([]byte{0, 1, 2, 3})}, {Name: "exbool", Value: "true"}, {Name: "exint", Value: "42"},
			{Name: "exstring", Value: "exstring"}, {Name: "extime", Value: "2020-03-21T12:34:56.78Z"}, {Name: "exurl", Value: "http://example.com/source"},
		},
	}
	if given != nil {
		e = &event.Event{ID: given.ID(), Source: given.Source(), Type: given.Type(), Subject: given.Subject(), DataContentType: given.DataContentType(), DataSchema: given.DataSchema()}
		if at := given.Time(); !at.IsZero() {
			e.Time = at.Format(time.RFC3339Nano)
		}
		for name, value := range given.Extensions() {
			e.SetExtension(name, fmt.Sprint(value))
		}
	}
	for name, value := range overrides {
		text := fmt.Sprint(value)
		switch name {
		case "id":
			e.ID = text
		case "source":
			e.Source = text
		case "type":
			e.Type = text
		case "subject":
			e.Subject = text
		case "time":
			e.Time = text
		case "datacontenttype":
			e.DataContentType = text
		case "dataschema":
			e.DataSchema = text
		case "specversion":
		default:
			e.SetExtension(name, text)
		}
	}
	return e
}
