package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
)

const (
	defaultAckWait     = 30 * time.Second
	defaultMaxInFlight = 1000

	// An ordered subscription gives events to one client, the pinned one, until that has not
	// been heard of for pinTTL.
	pinGroup = "ordered"
	pinTTL   = 3 * time.Second
)

// PutSubscription makes a durable consumer, or changes one.
func (e *Engine) PutSubscription(ctx context.Context, s engine.Subscription) error {
	if s.Name == "" {
		return errors.New("a subscription needs a name")
	}
	stream, name := streamName(s.Topic), consumerName(s.Name)
	err := e.manage(ctx, func(ctx context.Context) error {
		have, err := e.js.Consumer(ctx, stream, name)
		if errors.Is(err, api.ErrConsumerNotFound) {
			config := api.ConsumerConfig{
				Durable: name, Metadata: map[string]string{nameMeta: s.Name},
				DeliverPolicy: api.DeliverNewPolicy, AckPolicy: api.AckExplicitPolicy, MaxDeliver: -1,
			}
			setConfig(&config, s)
			_, err = e.js.CreateConsumer(ctx, stream, config)
			if errors.Is(err, api.ErrConsumerExists) { // made by another engine meanwhile
				have, err = e.js.Consumer(ctx, stream, name)
			} else {
				return err
			}
		}
		if err != nil {
			return err
		}
		config := have.CachedInfo().Config
		before := config
		setConfig(&config, s)
		if before.AckWait == config.AckWait && before.MaxAckPending == config.MaxAckPending &&
			before.PriorityPolicy == config.PriorityPolicy && before.PinnedTTL == config.PinnedTTL &&
			slices.Equal(before.PriorityGroups, config.PriorityGroups) && maps.Equal(before.Metadata, config.Metadata) {
			return nil
		}
		_, err = e.js.UpdateConsumer(ctx, stream, config)
		return err
	})
	if err != nil {
		return fmt.Errorf("subscription %s of topic %s: %w", s.Name, s.Topic, err)
	}
	return nil
}

func setConfig(c *api.ConsumerConfig, s engine.Subscription) {
	c.AckWait, c.MaxAckPending = s.AckWait, s.MaxInFlight
	if c.AckWait <= 0 {
		c.AckWait = defaultAckWait
	}
	if c.MaxAckPending <= 0 {
		c.MaxAckPending = defaultMaxInFlight
	}
	c.PriorityPolicy, c.PriorityGroups, c.PinnedTTL = api.PriorityPolicyNone, nil, 0
	if s.Ordered {
		c.PriorityPolicy, c.PriorityGroups, c.PinnedTTL = api.PriorityPolicyPinned, []string{pinGroup}, pinTTL
	}
}

// DeleteSubscription deletes the consumer.
func (e *Engine) DeleteSubscription(ctx context.Context, topic, name string) error {
	err := e.manage(ctx, func(ctx context.Context) error {
		err := e.js.DeleteConsumer(ctx, streamName(topic), consumerName(name))
		if errors.Is(err, api.ErrConsumerNotFound) || errors.Is(err, api.ErrStreamNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("subscription %s of topic %s: %w", name, topic, err)
	}
	return nil
}

// Backlog asks the consumer.
func (e *Engine) Backlog(ctx context.Context, topic, name string) (engine.Backlog, error) {
	info, err := e.consumerInfo(ctx, topic, name)
	if err != nil {
		return engine.Backlog{}, err
	}
	return engine.Backlog{Waiting: info.NumPending, InFlight: uint64(info.NumAckPending)}, nil
}

func (e *Engine) consumerInfo(ctx context.Context, topic, name string) (*api.ConsumerInfo, error) {
	var info *api.ConsumerInfo
	err := e.manage(ctx, func(ctx context.Context) error {
		c, err := e.js.Consumer(ctx, streamName(topic), consumerName(name))
		if err == nil {
			info = c.CachedInfo()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("subscription %s of topic %s: %w", name, topic, err)
	}
	return info, nil
}
