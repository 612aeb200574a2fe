package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// attemptTimeout is how long an answer may take before the question is asked again: the
// server that had it may be gone while the one that this client talks to is not.
const attemptTimeout = 5 * time.Second

// Publish stores an event. It asks again when an answer is lost, which the message id makes safe.
func (e *Engine) Publish(ctx context.Context, name string, ev *event.Event) (engine.Stored, error) {
	t := e.topic(name)
	m := encode(t.subject, ev)
	size := headerBytes(m.Header)
	if size > maxHeader {
		return engine.Stored{}, fmt.Errorf("%w: its attributes have %d bytes, and the store takes %d", engine.ErrTooLarge, size, maxHeader)
	}
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return engine.Stored{}, ctx.Err()
	}
	defer func() { <-e.slots }()

	stored, err := e.publish(ctx, t, m)
	if errors.Is(err, engine.ErrFull) {
		// Events that every subscription has make room.
		if t.trim(ctx, true) > 0 {
			stored, err = e.publish(ctx, t, m)
		}
	}
	if err == nil && !stored.Duplicate {
		t.published(size + len(ev.Data))
	}
	return stored, err
}

func (e *Engine) publish(ctx context.Context, t *topic, m *nats.Msg) (engine.Stored, error) {
	until := time.Now().Add(e.o.Patience)
	for {
		data, err := e.attempt(ctx, m)
		switch {
		case err == nil:
			stored, err := parseStored(data)
			if errors.Is(err, engine.ErrUnavailable) && time.Now().Before(until) {
				break // a server that has no leader or is short of something for now
			}
			return stored, err
		case ctx.Err() != nil:
			return engine.Stored{}, ctx.Err()
		case errors.Is(err, errLost):
			if err := e.await(ctx, until); err != nil {
				return engine.Stored{}, err
			}
			if time.Now().Before(until) {
				continue
			}
		case errors.Is(err, errNoResponders):
			// No stream listens there: it does not exist, or its server is on its way up.
			if err := e.exists(ctx, t); err != nil {
				return engine.Stored{}, err
			}
		case errors.Is(err, nats.ErrMaxPayload):
			return engine.Stored{}, engine.ErrTooLarge
		case errors.Is(err, context.DeadlineExceeded): // of the attempt
		default:
			return engine.Stored{}, fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
		}
		if !time.Now().Before(until) {
			return engine.Stored{}, fmt.Errorf("%w: topic %s does not answer", engine.ErrUnavailable, t.name)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return engine.Stored{}, err
		}
	}
}

func (e *Engine) attempt(ctx context.Context, m *nats.Msg) ([]byte, error) {
	one, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return e.requests.do(one, m)
}

// exists is nil when the topic is there, or nobody can say.
func (e *Engine) exists(ctx context.Context, t *topic) error {
	one, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if _, err := e.js.Stream(one, t.stream); errors.Is(mapped(err), engine.ErrNoTopic) {
		return fmt.Errorf("topic %s: %w", t.name, engine.ErrNoTopic)
	}
	return nil
}

var (
	errorField     = []byte(`"error":`)
	sequenceField  = []byte(`"seq":`)
	duplicateField = []byte(`"duplicate":`)
)

// parseStored reads the answer to a publish. One that tells of success is taken apart without a
// parser: {"stream":"NAME","seq":N} and, for a duplicate, "duplicate": true behind it; names of
// streams are safe ones.
func parseStored(data []byte) (engine.Stored, error) {
	if !bytes.Contains(data, errorField) {
		if _, rest, found := bytes.Cut(data, sequenceField); found {
			var n uint64
			digits := 0
			for _, c := range bytes.TrimLeft(rest, " ") {
				if c < '0' || '9' < c {
					break
				}
				n, digits = n*10+uint64(c-'0'), digits+1
			}
			if digits > 0 && n > 0 {
				return engine.Stored{Sequence: n, Duplicate: bytes.Contains(rest, duplicateField)}, nil
			}
		}
	}
	var response struct {
		Error *struct {
			Code        int    `json:"code"`
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &response); err != nil || response.Error == nil {
		return engine.Stored{}, fmt.Errorf("%w: its answer to a publish cannot be read", engine.ErrUnavailable)
	}
	return engine.Stored{}, refusal(response.Error.ErrCode, response.Error.Code, response.Error.Description)
}
