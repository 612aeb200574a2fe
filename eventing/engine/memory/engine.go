package memory

import (
	"context"
	"errors"
	"time"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// Engine is an engine.Engine.
type Engine struct {
	store     *Store
	closed    bool
	consumers []*consumer
}

var _ engine.Engine = (*Engine)(nil)

// PutTopic makes a topic, or gives it these limits.
func (g *Engine) PutTopic(_ context.Context, t engine.Topic) error {
	if t.Name == "" {
		return errors.New("a topic has a name")
	}
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if g.closed {
		return engine.ErrUnavailable
	}
	if there := g.store.topics[t.Name]; there != nil {
		there.Topic = t
		return nil
	}
	if g.store.topics == nil {
		g.store.topics = map[string]*topic{}
	}
	g.store.topics[t.Name] = &topic{Topic: t, first: 1, subscriptions: map[string]*subscription{}, known: map[identity]uint64{}, tails: make(chan struct{})}
	return nil
}

// DeleteTopic deletes a topic with all that is in it.
func (g *Engine) DeleteTopic(_ context.Context, name string) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	t := g.store.topics[name]
	if t == nil {
		return nil
	}
	delete(g.store.topics, name)
	t.gone = true
	for _, s := range t.subscriptions {
		s.end(engine.ErrNoTopic)
	}
	t.subscriptions = nil
	t.changed(time.Now())
	return nil
}

// PutSubscription makes a subscription that begins with the next event, or changes one.
func (g *Engine) PutSubscription(_ context.Context, want engine.Subscription) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	t, err := g.topic(want.Topic)
	if err != nil {
		return err
	}
	if want.AckWait <= 0 {
		want.AckWait = ackWait
	}
	if want.MaxInFlight <= 0 {
		want.MaxInFlight = maxInFlight
	}
	s := t.subscriptions[want.Name]
	if s == nil {
		s = &subscription{topic: t, next: t.last() + 1, pending: map[uint64]*pending{}}
		t.subscriptions[want.Name] = s
	}
	s.Subscription = want
	s.serve(time.Now())
	return nil
}

// DeleteSubscription forgets a subscription and its place.
func (g *Engine) DeleteSubscription(_ context.Context, topic, name string) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if t := g.store.topics[topic]; t != nil && t.subscriptions[name] != nil {
		t.subscriptions[name].end(engine.ErrNoSubscription)
		delete(t.subscriptions, name)
		t.forget(time.Now())
	}
	return nil
}

// Publish stores an event.
func (g *Engine) Publish(ctx context.Context, name string, e *event.Event) (engine.Stored, error) {
	if err := ctx.Err(); err != nil {
		return engine.Stored{}, err
	}
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	t, err := g.topic(name)
	if err != nil {
		return engine.Stored{}, err
	}
	return t.store(e, time.Now())
}

// Consume begins to take events.
func (g *Engine) Consume(_ context.Context, topic, name string) (engine.Consumer, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	s, err := g.subscription(topic, name)
	if err != nil {
		return nil, err
	}
	c := &consumer{engine: g, subscription: s, bound: 64, wake: make(chan struct{}, 1)}
	s.consumers = append(s.consumers, c)
	g.consumers = append(g.consumers, c)
	return c, nil
}

// Backlog counts what a subscription has not acknowledged.
func (g *Engine) Backlog(_ context.Context, topic, name string) (engine.Backlog, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	s, err := g.subscription(topic, name)
	if err != nil {
		return engine.Backlog{}, err
	}
	now := time.Now()
	s.topic.forget(now)
	b := engine.Backlog{Waiting: s.topic.last() + 1 - max(s.next, s.topic.first)}
	for _, p := range s.pending {
		if p.holder == nil && !p.due.After(now) {
			b.Waiting++
		} else {
			b.InFlight++
		}
	}
	return b, nil
}

// Ready is nil until the engine is closed.
func (g *Engine) Ready(context.Context) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if g.closed {
		return engine.ErrUnavailable
	}
	return nil
}

// Close ends this engine's consumers and tails. The store stays.
func (g *Engine) Close() error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	for _, c := range g.consumers {
		c.close()
	}
	for _, t := range g.store.topics {
		t.changed(time.Now())
	}
	return nil
}

func (g *Engine) topic(name string) (*topic, error) {
	if g.closed {
		return nil, engine.ErrUnavailable
	}
	if t := g.store.topics[name]; t != nil {
		return t, nil
	}
	return nil, engine.ErrNoTopic
}

func (g *Engine) subscription(topic, name string) (*subscription, error) {
	t, err := g.topic(topic)
	if err != nil {
		return nil, err
	}
	if s := t.subscriptions[name]; s != nil {
		return s, nil
	}
	return nil, engine.ErrNoSubscription
}
