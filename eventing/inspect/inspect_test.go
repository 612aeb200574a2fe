package inspect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/engine/memory"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

const topic = "b.default.main.0a1b2c3d"

// serve is a store with the topic and one subscription, and a client of its handler.
func serve(t *testing.T) (engine.Engine, *Client) {
	t.Helper()
	e := (&memory.Store{}).Open()
	for _, err := range []error{
		e.PutTopic(t.Context(), engine.Topic{Name: topic, KeepAll: true}),
		e.PutTopic(t.Context(), engine.Topic{Name: plan.DeadLetters(topic), KeepAll: true}),
		e.PutSubscription(t.Context(), engine.Subscription{Topic: topic, Name: "t1"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(New(e))
	t.Cleanup(server.Close)
	return e, &Client{HTTP: server.Client(), Address: strings.TrimPrefix(server.URL, "http://")}
}

func numbered(n int, kind string) *event.Event {
	return &event.Event{ID: fmt.Sprint(n), Source: "/s", Type: kind, Data: []byte("Grüße"), DataContentType: "text/plain"}
}

var errEnough = errors.New("enough")

func TestTail(t *testing.T) {
	e, c := serve(t)
	start := time.Now().Add(-time.Hour)
	for n := range 10 {
		if _, err := e.Publish(t.Context(), topic, numbered(n, []string{"a", "b"}[n%2])); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	err := c.Tail(t.Context(), topic, []string{"type=b", "source=/s"}, start, func(s Stored) error {
		if string(s.Event.Data) != "Grüße" || s.Time.IsZero() || s.Sequence == 0 {
			t.Errorf("event %+v", s)
		}
		if ids = append(ids, s.Event.ID); len(ids) == 5 {
			return errEnough
		}
		return nil
	})
	if got := strings.Join(ids, " "); !errors.Is(err, errEnough) || got != "1 3 5 7 9" {
		t.Errorf("tail gives %s, %v", got, err)
	}
	for _, bad := range [][]string{{"type"}, {"=x"}, {"type=a", "type=b"}, {"Not An Attribute=x"}} {
		if err := c.Tail(t.Context(), topic, bad, start, func(Stored) error { return errEnough }); err == nil || errors.Is(err, errEnough) {
			t.Errorf("filter %v is taken: %v", bad, err)
		}
	}
	if err := c.Tail(t.Context(), "b.default.other.0a1b2c3d", nil, start, nil); err == nil {
		t.Error("a topic that is not there has a tail")
	}
}

func TestDeadLetters(t *testing.T) {
	e, c := serve(t)
	for n, subscription := range []string{"t1", "t1", "gone"} {
		dead := delivery.Failure{Destination: "http://x/", Code: 503, Body: []byte("busy\xff")}.Mark(numbered(n, "a"))
		deadletter.Address(dead, plan.Reference{Kind: "Trigger", Namespace: "default", Name: subscription}, subscription)
		if _, err := e.Publish(t.Context(), plan.DeadLetters(topic), dead); err != nil {
			t.Fatal(err)
		}
	}
	list := func(subscription string, sequence uint64, redeliver bool) (out []string) {
		t.Helper()
		if err := c.DeadLetters(t.Context(), topic, subscription, sequence, redeliver, func(l Letter) error {
			line := fmt.Sprint(l.Event.ID, " ", l.Kind, "/", l.Name, " ", l.Code, " ", l.Answer)
			if l.Error != "" {
				line += " failed"
			}
			out = append(out, line)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, c := range []struct {
		subscription string
		sequence     uint64
		redeliver    bool
		want         string
	}{
		{"", 0, false, "0 Trigger/t1 503 busy\uFFFD,1 Trigger/t1 503 busy\uFFFD,2 Trigger/gone 503 busy\uFFFD"},
		{"gone", 0, false, "2 Trigger/gone 503 busy\uFFFD"},
		{"", 2, true, "1 Trigger/t1 503 busy\uFFFD"},
		{"", 99, false, ""},
		{"gone", 0, true, "2 Trigger/gone 503 busy\uFFFD failed"},
	} {
		if got := strings.Join(list(c.subscription, c.sequence, c.redeliver), ","); got != c.want {
			t.Errorf("%+v gives %s", c, got)
		}
	}
	// The one that was redelivered is in the topic for its subscription, and a tail shows it as it was.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := c.Tail(ctx, topic, nil, time.Now().Add(-time.Hour), func(s Stored) error {
		if s.Event.ID != "1" || len(s.Event.Extensions) > 0 {
			t.Errorf("redelivered is %+v", s.Event)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

// A page in a browser on the machine reaches nothing.
func TestOnlyFromTheMachine(t *testing.T) {
	_, c := serve(t)
	for name, change := range map[string]func(*http.Request){
		"another origin":         func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"a name of another site": func(r *http.Request) { r.Host = "evil.example:80" },
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Address+pathDeadLetters+"?topic="+topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		response, err := c.HTTP.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s is answered with %s", name, response.Status)
		}
	}
}
