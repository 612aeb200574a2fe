package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

type tail struct {
	topic    string
	messages api.MessagesContext
	e        *Engine
}

// Tail reads by an ordered consumer of the client, which the server forgets when it is gone. It
// keeps no event from being taken away.
func (e *Engine) Tail(ctx context.Context, topic string, from engine.From) (engine.Tail, error) {
	t := &tail{topic: topic, e: e}
	err := e.manage(ctx, func(ctx context.Context) error {
		stream, err := e.js.Stream(ctx, streamName(topic))
		if err != nil {
			return err
		}
		config := api.OrderedConsumerConfig{InactiveThreshold: time.Minute}
		switch {
		case from.Sequence > 0:
			config.DeliverPolicy, config.OptStartSeq = api.DeliverByStartSequencePolicy, from.Sequence
		case !from.Time.IsZero():
			config.DeliverPolicy, config.OptStartTime = api.DeliverByStartTimePolicy, &from.Time
		default:
			config.DeliverPolicy, config.OptStartSeq = api.DeliverByStartSequencePolicy, stream.CachedInfo().State.LastSeq+1
		}
		consumer, err := stream.OrderedConsumer(ctx, config)
		if err != nil {
			return err
		}
		t.messages, err = consumer.Messages(api.PullMaxMessages(100))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	return t, nil
}

func (t *tail) Next(ctx context.Context) (*event.Event, engine.Stored, time.Time, error) {
	for {
		m, err := t.messages.Next(api.NextContext(ctx))
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, engine.Stored{}, time.Time{}, ctx.Err()
		case errors.Is(err, api.ErrMsgIteratorClosed), errors.Is(err, nats.ErrConnectionClosed):
			return nil, engine.Stored{}, time.Time{}, engine.ErrClosed
		default:
			return nil, engine.Stored{}, time.Time{}, fmt.Errorf("topic %s: %w", t.topic, mapped(err))
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, engine.Stored{}, time.Time{}, fmt.Errorf("topic %s: %w", t.topic, err)
		}
		e, err := decode(&nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
		if err != nil {
			t.e.o.Logger.Error("a message that is no event was passed over", "topic", t.topic, "error", err)
			continue
		}
		return e, engine.Stored{Sequence: meta.Sequence.Stream}, meta.Timestamp, nil
	}
}

func (t *tail) Close() { t.messages.Stop() }
