package platform

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Delivery is one event that a Sink was sent, in binary or structured mode.
type Delivery struct {
	Path   string
	Header http.Header
	Body   string
}

// ID of an event in binary mode.
func (d Delivery) ID() string { return d.Header.Get("Ce-Id") }

// Attribute of an event in binary mode, percent-encoded as it came; "" for one that it has not.
func (d Delivery) Attribute(name string) string { return d.Header.Get("Ce-" + name) }

// Sink takes events in the test's own process, which outlives whatever the test kills.
type Sink struct {
	URL string

	answer func(Delivery, http.ResponseWriter) bool
	mu     sync.Mutex
	all    []Delivery // that were taken
}

// NewSink begins one that ends with the test. answer may be nil; an event that it answers itself, with true, is not taken.
func NewSink(t testing.TB, answer func(Delivery, http.ResponseWriter) bool) *Sink {
	s := &Sink{answer: answer}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it is sent again
	}
	d := Delivery{r.URL.Path, r.Header, string(body)}
	if s.answer != nil && s.answer(d, w) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
}

// Taken are the deliveries to a path, in their order. The same event may be there twice: delivery is at least once.
func (s *Sink) Taken(path string) []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(d Delivery) bool { return d.Path != path })
}

// IDs of the events that a path was sent, sorted, each once.
func (s *Sink) IDs(path string) []string {
	var ids []string
	for _, d := range s.Taken(path) {
		ids = append(ids, d.ID())
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Await waits until a path was sent all these events.
func (s *Sink) Await(t testing.TB, path string, ids ...string) {
	t.Helper()
	Until(t, "events at "+path, func() error {
		have := s.IDs(path)
		missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, there := slices.BinarySearch(have, id); return there })
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d events are missing: %s", len(missing), len(ids), shortened(missing))
		}
		return nil
	})
}

func shortened(words []string) string {
	if len(words) > 10 {
		return strings.Join(words[:10], " ") + " …"
	}
	return strings.Join(words, " ")
}
