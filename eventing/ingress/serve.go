package ingress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

const (
	hopLimit        = "knativebrokerttl"
	defaultHopLimit = 255
	allowed         = "POST, OPTIONS"
)

// ServeHTTP takes the events of one request.
func (i *Ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	address, ok := plan.AddressOf(r.URL.Path)
	topic := (*i.topics.Load())[address]
	if !ok || topic == nil {
		i.metrics.unknown.Inc()
		(&refusal{http.StatusNotFound, "", "there is no broker or channel at " + strconv.Quote(shorten(r.URL.Path)) + ": the path is /NAMESPACE/BROKER or /channels/NAMESPACE/CHANNEL", ""}).write(w)
		return
	}
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions:
		handshake(w, r)
		return
	default:
		w.Header().Set("Allow", allowed)
		(&refusal{http.StatusMethodNotAllowed, "", "events are sent by POST", ""}).write(w)
		return
	}
	begin := time.Now()
	m := i.metrics.of(address)
	if refused := i.take(w, r, topic, m); refused != nil {
		m.requests(refused.result).Inc()
		refused.write(w)
		return
	}
	m.accepted.Inc()
	m.seconds.Observe(time.Since(begin).Seconds())
	w.WriteHeader(http.StatusAccepted)
}

func shorten(path string) string {
	if len(path) > 200 {
		return path[:200] + "…"
	}
	return path
}

// take stores the events of a request, or says why not. A refusal of a batch means that its sender has
// to send all of it again: the events that were stored already are known as duplicates then.
func (i *Ingress) take(w http.ResponseWriter, r *http.Request, topic *plan.Topic, m *topicMetrics) *refusal {
	if !topic.Accepts {
		return &refusal{http.StatusServiceUnavailable, "1", topic.Why, "not_ready"}
	}
	if !i.begin() {
		w.Header().Set("Connection", "close")
		return &refusal{http.StatusServiceUnavailable, "1", "this ingress is going away; send the event again", "draining"}
	}
	defer i.inFlight.Done()
	busy := &refusal{http.StatusServiceUnavailable, "1", "this ingress has too much to do; send the event again", "overloaded"}
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	default:
		return busy
	}

	body, release, refused := i.body(w, r, busy)
	if refused != nil {
		return refused
	}
	defer release()
	if event.ModeOf(r.Header.Get("Content-Type")) == event.Unknown {
		return &refusal{
			http.StatusUnsupportedMediaType, "",
			"events are taken as application/cloudevents+json, as application/cloudevents-batch+json or with ce- headers", "invalid",
		}
	}
	events, err := event.FromHTTP(r.Header, body, i.o.Limits)
	if err != nil {
		return ofEvent(err)
	}
	for n, e := range events {
		if refused := prepare(e, topic, r.Header); refused != nil {
			if len(events) > 1 {
				refused.reason += fmt.Sprintf(" (event %d of the batch)", n)
			}
			return refused
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), i.o.Timeout)
	defer cancel()
	return i.store(ctx, topic, events, m)
}

// body reads the body, within what all of them may have in memory.
func (i *Ingress) body(w http.ResponseWriter, r *http.Request, busy *refusal) ([]byte, func(), *refusal) {
	tooLarge := &refusal{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("the body is larger than %d bytes", i.o.MaxBodyBytes), "too_large"}
	if r.ContentLength > i.o.MaxBodyBytes {
		w.Header().Set("Connection", "close") // rather than read it
		return nil, nil, tooLarge
	}
	want := r.ContentLength
	if want < 0 {
		want = i.o.MaxBodyBytes // until it is known
	}
	if i.buffered.Add(want) > i.o.MaxBufferedBytes {
		i.buffered.Add(-want)
		return nil, nil, busy
	}
	release := func() { i.buffered.Add(-want) }
	var body []byte
	var err error
	if r.ContentLength >= 0 {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else {
		var b bytes.Buffer
		_, err = b.ReadFrom(http.MaxBytesReader(w, r.Body, i.o.MaxBodyBytes))
		body = b.Bytes()
	}
	if err != nil {
		release()
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, nil, tooLarge
		}
		return nil, nil, &refusal{http.StatusBadRequest, "", "the body ended early: " + err.Error(), "aborted"}
	}
	return body, release, nil
}

// prepare gives an event what it has to have on its way: a hop limit, one lower than the one it
// comes with, and the trace of the request where it has none of its own. What only Ebb itself may say of an event is dropped.
func prepare(e *event.Event, topic *plan.Topic, h http.Header) *refusal {
	deadletter.Strip(e)
	if text, there := e.Get(hopLimit); there {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < 0:
			return &refusal{http.StatusBadRequest, "", "attribute " + hopLimit + " is not a number from 1", "invalid"}
		case n <= 1:
			// Refused for good, or a loop of triggers would go on for ever.
			return &refusal{http.StatusBadRequest, "", "the event has gone through as many brokers as it may: its " + hopLimit + " is used up; look for a trigger that answers its own events", "hop_limit"}
		}
		e.SetExtension(hopLimit, strconv.Itoa(n-1))
	} else {
		e.SetExtension(hopLimit, strconv.Itoa(fallback(topic.HopLimit, defaultHopLimit)))
	}
	if _, there := e.Get("traceparent"); !there {
		if parent := h.Get("Traceparent"); traceparent(parent) {
			e.SetExtension("traceparent", parent)
			if state := h.Get("Tracestate"); state != "" && len(state) <= 512 && printable(state) {
				e.SetExtension("tracestate", state)
			}
		}
	}
	return nil
}

// traceparent is whether s is one of W3C Trace Context: 00-TRACE-SPAN-FLAGS.
func traceparent(s string) bool {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i != 2 && i != 35 && i != 52 && (c < '0' || '9' < c) && (c < 'a' || 'f' < c) {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// store publishes the events of a request one after the other, so that the topic has them in the
// order of the batch, and a refused batch was stored up to some place.
func (i *Ingress) store(ctx context.Context, topic *plan.Topic, events []*event.Event, m *topicMetrics) *refusal {
	for _, e := range events {
		if refused := i.publish(ctx, topic, e, m); refused != nil {
			return refused
		}
	}
	return nil
}

func (i *Ingress) publish(ctx context.Context, topic *plan.Topic, e *event.Event, m *topicMetrics) *refusal {
	stored, err := i.o.Engine.Publish(ctx, topic.Engine.Name, e)
	if err != nil {
		if !errors.Is(err, engine.ErrFull) && !errors.Is(err, engine.ErrTooLarge) {
			i.o.Logger.Debug("an event was not stored", "topic", topic.Engine.Name, "error", err)
		}
		return ofEngine(err)
	}
	if stored.Duplicate {
		m.duplicates.Inc()
	} else {
		m.events.Inc()
		m.bytes.Add(float64(e.Size()))
	}
	if i.o.Seen != nil {
		if s := (Seen{topic.Address, e.Type, e.Source, e.DataSchema}); i.seen.add(s) {
			i.o.Seen(s)
		}
	}
	return nil
}

// handshake answers the validation of the CloudEvents webhook specification: whoever asks may
// send, at any rate. The path says where to, so no origin is kept out here.
func handshake(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Allow", allowed)
	if origin := r.Header.Get("WebHook-Request-Origin"); origin != "" {
		h.Set("WebHook-Allowed-Origin", origin)
		if r.Header.Get("WebHook-Request-Rate") != "" {
			h.Set("WebHook-Allowed-Rate", "*")
		}
	}
	w.WriteHeader(http.StatusOK)
}
