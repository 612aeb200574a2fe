package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/filter"
	"ebb.dev/ebb/eventing/plan"
)

// Paths, with the topic's own name in the query: topic=NAME.
const (
	pathEvents      = "/events"       // GET; filter=ATTRIBUTE=VALUE, any number; since=RFC 3339; a line of JSON each, without an end
	pathDeadLetters = "/dead-letters" // GET: a line of JSON each; POST: the same, and each is delivered again. subscription=NAME, sequence=N
)

// Stored is one event of a topic.
type Stored struct {
	Sequence uint64       `json:"sequence"` // in the topic
	Time     time.Time    `json:"time"`     // when it was stored
	Event    *event.Event `json:"event"`    // in the JSON format of CloudEvents
}

// Letter is one dead letter.
type Letter struct {
	Sequence     uint64       `json:"sequence"` // in the topic of dead letters
	Time         time.Time    `json:"time"`     // when it was stored
	Kind         string       `json:"kind"`     // of the object that it could not be delivered for
	Namespace    string       `json:"namespace"`
	Name         string       `json:"name"`
	Subscription string       `json:"subscription"` // its name in the store
	Destination  string       `json:"destination"`
	Code         int          `json:"code"`            // status of HTTP
	Answer       string       `json:"answer"`          // the beginning of it
	Event        *event.Event `json:"event"`           // as it was before
	Error        string       `json:"error,omitempty"` // why it is not delivered again
}

// failed is the last line of a stream that broke.
type failed struct {
	Failed string `json:"failed"`
}

// quiet is how often a stream without events says that it is there.
const quiet = 15 * time.Second

// New answers for an engine.
func New(e engine.Engine) http.Handler {
	h := &handler{e}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathEvents, h.events)
	mux.HandleFunc("GET "+pathDeadLetters, h.deadLetters)
	mux.HandleFunc("POST "+pathDeadLetters, h.deadLetters)
	return local(mux)
}

// local refuses what a page in a browser on this machine sends: it has an Origin, or a host that is not an address.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
		if r.Header.Get("Origin") != "" || host != "127.0.0.1" && host != "localhost" && host != "[::1]" {
			http.Error(w, "this is for `ebb events` on the same machine, or by a port-forward", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type handler struct{ engine engine.Engine }

func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	topic, ok := topicOf(w, q)
	if !ok {
		return
	}
	matcher, err := matcherOf(q["filter"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var from engine.From
	if text := q.Get("since"); text != "" {
		if from.Time, err = time.Parse(time.RFC3339Nano, text); err != nil {
			http.Error(w, "since: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	tail, err := h.engine.Tail(r.Context(), topic, from)
	if err != nil {
		refuse(w, err)
		return
	}
	defer tail.Close()
	s := begin(w)
	for broken := error(nil); broken == nil; {
		ctx, cancel := context.WithTimeout(r.Context(), quiet)
		e, stored, at, err := tail.Next(ctx)
		cancel()
		switch {
		case err == nil:
			if _, e = deadletter.For(e); matcher.Match(e) {
				broken = s.line(Stored{stored.Sequence, at, e})
			}
		case r.Context().Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			broken = s.line(struct{}{})
		default:
			_ = s.line(failed{err.Error()})
			return
		}
	}
}

func (h *handler) deadLetters(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	topic, ok := topicOf(w, q)
	if !ok {
		return
	}
	subscription, only := q.Get("subscription"), uint64(0)
	if text := q.Get("sequence"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			http.Error(w, "sequence is a number from 1", http.StatusBadRequest)
			return
		}
		only = n
	}
	var s *stream
	begun := func() *stream {
		if s == nil {
			s = begin(w)
		}
		return s
	}
	enough := errors.New("enough")
	err := deadletter.List(r.Context(), h.engine, topic, engine.From{Sequence: only}, false, func(l deadletter.Letter) error {
		if only > 0 && l.Sequence != only {
			return enough
		}
		if subscription != "" && l.Subscription != subscription {
			return nil
		}
		told := Letter{
			Sequence: l.Sequence, Time: l.At, Kind: l.Owner.Kind, Namespace: l.Owner.Namespace, Name: l.Owner.Name, Subscription: l.Subscription,
			Destination: l.Failure.Destination, Code: l.Failure.Code, Answer: strings.ToValidUTF8(string(l.Failure.Body), "\uFFFD"), Event: l.Event,
		}
		if r.Method == http.MethodPost {
			if _, err := deadletter.Redeliver(r.Context(), h.engine, topic, l); err != nil {
				told.Error = err.Error()
			}
		}
		return begun().line(told)
	})
	switch {
	case err == nil, errors.Is(err, enough):
		begun()
	case s == nil:
		refuse(w, err)
	default:
		_ = s.line(failed{err.Error()})
	}
}

// topicOf is the topic of the query. Only Brokers' and Channels' are answered for.
func topicOf(w http.ResponseWriter, q url.Values) (string, bool) {
	topic := q.Get("topic")
	if _, _, ok := plan.OwnerOf(topic); !ok {
		http.Error(w, fmt.Sprintf("topic %q is not one of a Broker or a Channel", topic), http.StatusBadRequest)
		return "", false
	}
	return topic, true
}

// matcherOf compiles ATTRIBUTE=VALUE, all of which have to hold.
func matcherOf(terms []string) (*filter.Matcher, error) {
	var exact []plan.Match
	for _, term := range terms {
		name, value, ok := strings.Cut(term, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("filter %q is not ATTRIBUTE=VALUE", term)
		}
		exact = append(exact, plan.Match{Attribute: name, Value: value})
	}
	if len(exact) == 0 {
		return filter.Compile(nil)
	}
	slices.SortFunc(exact, func(a, b plan.Match) int { return strings.Compare(a.Attribute, b.Attribute) })
	for i := range exact[1:] {
		if exact[i].Attribute == exact[i+1].Attribute {
			return nil, fmt.Errorf("filter: %s is given twice", exact[i].Attribute)
		}
	}
	return filter.Compile([]plan.Filter{{Exact: exact}})
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, engine.ErrNoTopic) {
		status = http.StatusNotFound
	}
	http.Error(w, err.Error(), status)
}

// stream writes a line of JSON at once.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func begin(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	s := &stream{w, http.NewResponseController(w)}
	_ = s.control.Flush()
	return s
}

func (s *stream) line(v any) error {
	if err := json.NewEncoder(s.w).Encode(v); err != nil {
		return err
	}
	return s.control.Flush()
}
