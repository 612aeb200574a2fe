package inspect

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/eventing/event"
)

// Client asks a handler of this package.
type Client struct {
	HTTP    *http.Client // without a time limit of its own: a tail has no end
	Address string       // HOST:PORT
}

// lineAtMost bounds a line: an event in base64.
const lineAtMost = 128 << 20

// Tail calls each for every event of a topic that the filters let through, from a time on (zero: from now), until ctx ends or
// each returns an error, which it returns.
func (c *Client) Tail(ctx context.Context, topic string, filters []string, since time.Time, each func(Stored) error) error {
	q := url.Values{"topic": {topic}, "filter": filters}
	if !since.IsZero() {
		q.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	return c.lines(ctx, http.MethodGet, pathEvents, q, func(text []byte) error {
		var s Stored
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		if s.Event == nil {
			return nil // a sign of life
		}
		return each(s)
	})
}

// DeadLetters calls each for every dead letter of a topic, of one subscription where one is named, and the one of a sequence
// where that is not 0. With redeliver each is stored again for its subscription first; Letter.Error says why one is not.
func (c *Client) DeadLetters(ctx context.Context, topic, subscription string, sequence uint64, redeliver bool, each func(Letter) error) error {
	q, method := url.Values{"topic": {topic}}, http.MethodGet
	if redeliver {
		method = http.MethodPost
	}
	if subscription != "" {
		q.Set("subscription", subscription)
	}
	if sequence > 0 {
		q.Set("sequence", strconv.FormatUint(sequence, 10))
	}
	return c.lines(ctx, method, pathDeadLetters, q, func(text []byte) error {
		var l Letter
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("read a dead letter: %w", err)
		}
		return each(l)
	})
}

func (c *Client) lines(ctx context.Context, method, path string, q url.Values, each func([]byte) error) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.Address+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return errors.New(strings.TrimSpace(string(text)))
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 64<<10), lineAtMost)
	for lines.Scan() {
		var f failed
		if err := json.Unmarshal(lines.Bytes(), &f); err == nil && f.Failed != "" {
			return errors.New(f.Failed)
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return lines.Err()
}

// UnmarshalJSON of the two reads the event in the JSON format of CloudEvents.
func (s *Stored) UnmarshalJSON(text []byte) error {
	type plain Stored
	in := struct {
		*plain
		Event json.RawMessage `json:"event"`
	}{plain: (*plain)(s)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	return eventOf(in.Event, &s.Event)
}

// UnmarshalJSON is as of Stored.
func (l *Letter) UnmarshalJSON(text []byte) error {
	type plain Letter
	in := struct {
		*plain
		Event json.RawMessage `json:"event"`
	}{plain: (*plain)(l)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	return eventOf(in.Event, &l.Event)
}

func eventOf(text json.RawMessage, into **event.Event) (err error) {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	*into, err = event.FromJSON(text, event.Limits{})
	return err
}
