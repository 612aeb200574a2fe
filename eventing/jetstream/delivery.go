package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

const ackPrefix = "$JS.ACK."

var (
	ackPayload     = []byte("+ACK")
	nakPayload     = []byte("-NAK")
	workingPayload = []byte("+WPI")
	termPayload    = []byte("+TERM")
)

const (
	// ackTimeout bounds Ack and Nak where the caller does not.
	ackTimeout = 30 * time.Second
	// afterLoss is how long an answer over a new connection may take. A server that was killed may
	// not remember that it gave the event out; it does not answer then, and gives it out again.
	afterLoss = 500 * time.Millisecond
)

type delivery struct {
	c         *consumer
	event     *event.Event
	reply     string // where it is acknowledged
	sequence  uint64
	attempt   int
	published int64 // nanoseconds since 1970
	ended     bool  // c.mu
}

func newDelivery(c *consumer, m *nats.Msg) (*delivery, error) {
	d := &delivery{c: c, reply: m.Reply}
	if err := d.parseReply(); err != nil {
		return nil, err
	}
	var err error
	d.event, err = decode(m)
	return d, err
}

// parseReply reads the fields of $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.SEQUENCE.
// CONSUMERSEQUENCE.TIME.PENDING[.TOKEN]; the longer form is that of servers with a domain.
func (d *delivery) parseReply() error {
	skip := 2 // STREAM and CONSUMER
	if strings.Count(d.reply, ".") >= 10 {
		skip = 4
	}
	rest := d.reply[len(ackPrefix):]
	for range skip {
		_, rest, _ = strings.Cut(rest, ".")
	}
	var fields [4]uint64
	for i := range fields {
		var text string
		var err error
		text, rest, _ = strings.Cut(rest, ".")
		if fields[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("the reply subject %q of a delivery cannot be read", d.reply)
		}
	}
	d.attempt, d.sequence, d.published = int(min(fields[0], 1<<30)), fields[1], int64(fields[3]&(1<<63-1))
	return nil
}

func (d *delivery) Event() *event.Event  { return d.event }
func (d *delivery) Sequence() uint64     { return d.sequence }
func (d *delivery) Attempt() int         { return d.attempt }
func (d *delivery) Published() time.Time { return time.Unix(0, d.published) }

// Ack returns when the server has it.
func (d *delivery) Ack(ctx context.Context) error { return d.end(ctx, ackPayload) }

// Nak has the server give the event out again after a while.
func (d *delivery) Nak(ctx context.Context, after time.Duration) error {
	payload := nakPayload
	if after > 0 {
		payload = strconv.AppendInt([]byte(`-NAK {"delay":`), int64(after), 10)
		payload = append(payload, '}')
	}
	return d.end(ctx, payload)
}

// end tells the server, again over a new connection when the answer was lost, and makes room.
func (d *delivery) end(ctx context.Context, payload []byte) error {
	defer d.c.ended(d)
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ackTimeout)
		defer cancel()
	}
	m := &nats.Msg{Subject: d.reply, Data: payload}
	wait := attemptTimeout
	for {
		one, cancel := context.WithTimeout(ctx, wait)
		_, err := d.c.e.requests.do(one, m)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("event %d of topic %s: %w: %w", d.sequence, d.c.topic, engine.ErrUnavailable, ctx.Err())
		case errors.Is(err, errLost):
			until, _ := ctx.Deadline()
			if err := d.c.e.await(ctx, until); err != nil {
				return fmt.Errorf("event %d of topic %s: %w", d.sequence, d.c.topic, err)
			}
			wait = afterLoss
		case errors.Is(err, errNoResponders):
			// The subscription is gone, or its server on its way up.
			if _, err := d.c.e.consumerInfo(ctx, d.c.topic, d.c.subscr); err != nil {
				return fmt.Errorf("event %d: %w", d.sequence, err)
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return fmt.Errorf("event %d of topic %s: %w: %w", d.sequence, d.c.topic, engine.ErrUnavailable, err)
			}
		default:
			return fmt.Errorf("event %d of topic %s: %w: %w", d.sequence, d.c.topic, engine.ErrUnavailable, err)
		}
	}
}

// Working starts AckWait anew. It does not wait for the server.
func (d *delivery) Working(context.Context) error {
	if err := d.c.e.nc.Publish(d.reply, workingPayload); err != nil {
		return fmt.Errorf("event %d of topic %s: %w: %w", d.sequence, d.c.topic, engine.ErrUnavailable, err)
	}
	return nil
}
