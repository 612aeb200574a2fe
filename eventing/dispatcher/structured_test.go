package dispatcher

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ebb.dev/ebb/eventing/engine/memory"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// Delivery.Structured is how events are sent, whichever way they go.
func TestStructuredMode(t *testing.T) {
	type request struct {
		header http.Header
		body   []byte
	}
	got := make(chan request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Header, body}
	}))
	defer server.Close()
	d := New(Options{Engine: (&memory.Store{}).Open()})
	t.Cleanup(func() { kill(d) })
	s, err := d.settings(plan.Subscription{Subscriber: plan.Target{URL: server.URL}, Delivery: plan.Delivery{Structured: true}})
	if err != nil {
		t.Fatal(err)
	}
	sent := &event.Event{ID: "1", Source: "/s", Type: "t", Subject: "Grüße", DataContentType: "application/json", Data: []byte(`{"a":1}`)}
	if a := d.send(t.Context(), plan.Reference{}, s.subscriber, sent, time.Minute, true); !a.Accepted() {
		t.Fatalf("answer %+v", a)
	}
	r := <-got
	if event.ModeOf(r.header.Get("Content-Type")) != event.Structured || r.header.Get("Ce-Id") != "" {
		t.Errorf("headers are %v", r.header)
	}
	if e, err := event.FromJSON(r.body, event.DefaultLimits); err != nil || e.ID != sent.ID || e.Subject != sent.Subject || string(e.Data) != string(sent.Data) {
		t.Errorf("%s is %+v, %v", r.body, e, err)
	}
}
