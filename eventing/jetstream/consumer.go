package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
)

const (
	pullExpires     = 30 * time.Second
	pullGrace       = 5 * time.Second // behind pullExpires; then the server has forgotten the pull
	defaultInFlight = 64
)

// consumer takes the events of one subscription by pull requests. It asks for no more than it
// may have: what it asked for, what waits in buffer, and what was given out and is not ended
// are together at most limit.
type consumer struct {
	e               *Engine
	topic, subscr   string
	stream, durable string
	next            string // subject of pull requests

	mu    sync.Mutex
	sub   *nats.Subscription // of this connection; its answers go to inbox + "." + the batch asked for
	inbox string
	// connection counts the connections of the engine: which one sub belongs to.
	connection uint64
	ordered    bool
	ackWait    time.Duration
	limit      int
	started    bool // Next or SetInFlight was called
	asked      int  // of the server and not here
	out        int  // here and not ended, given out or not
	buffer     []*delivery
	err        error         // ends Next
	wake       chan struct{} // for Next, one goroutine at a time
	stale      *time.Timer   // the pull requests were forgotten
	backoff    time.Duration // before the server is asked again after it refused
	order      order
}

// Consume begins to take events; it asks for the first when Next or SetInFlight is called.
func (e *Engine) Consume(ctx context.Context, topic, subscription string) (engine.Consumer, error) {
	info, err := e.consumerInfo(ctx, topic, subscription)
	if err != nil {
		return nil, err
	}
	c := &consumer{
		e: e, topic: topic, subscr: subscription, stream: info.Stream, durable: info.Name,
		next:  "$JS.API.CONSUMER.MSG.NEXT." + info.Stream + "." + info.Name,
		limit: defaultInFlight, wake: make(chan struct{}, 1),
	}
	c.configure(info)
	c.stale = time.AfterFunc(time.Hour, c.restart)
	c.stale.Stop()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, fmt.Errorf("%w: the engine is closed", engine.ErrUnavailable)
	}
	e.consumers[c] = struct{}{}
	e.mu.Unlock()
	c.restart()
	return c, nil
}

// configure takes over what is set on the subscription.
func (c *consumer) configure(info *api.ConsumerInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ackWait = info.Config.AckWait
	if ordered := info.Config.PriorityPolicy == api.PriorityPolicyPinned; ordered != c.ordered {
		c.ordered = ordered
		c.order.reset()
	}
}

// restart listens anew and asks anew: for a new connection, which the old requests do not
// belong to, or when nothing was heard of them for too long. What was sent to the old
// inbox and did not arrive is given out again after AckWait.
func (c *consumer) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.sub != nil {
		_ = c.sub.Unsubscribe()
	}
	c.inbox, c.connection = c.e.nc.NewInbox(), c.e.nc.Stats().Reconnects
	sub, err := c.e.nc.Subscribe(c.inbox+".*", c.take)
	if err != nil {
		if errors.Is(err, nats.ErrConnectionClosed) {
			c.endLocked(engine.ErrClosed)
			return
		}
		c.e.o.Logger.Warn("subscribe to NATS", "error", err)
		c.stale.Reset(pullGrace)
		return
	}
	_ = sub.SetPendingLimits(-1, -1) // no more comes than was asked for
	c.sub, c.asked = sub, 0
	if c.ordered {
		c.order.anew(c)
	}
	c.pull()
}

// SetInFlight bounds what is asked for and not acknowledged.
func (c *consumer) SetInFlight(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit, c.started = max(n, 0), true
	c.pull()
}

type pullRequest struct {
	Expires  time.Duration `json:"expires"`
	Batch    int           `json:"batch"`
	MaxBytes int           `json:"max_bytes,omitempty"`
	Group    string        `json:"group,omitempty"`
	ID       string        `json:"id,omitempty"`
}

// pull asks for as many events as there is room for, not one by one while others are on their way. c.mu is held.
func (c *consumer) pull() {
	free := c.limit - c.asked - c.out
	if free <= 0 || c.asked > 0 && free < (c.limit+3)/4 {
		return
	}
	c.ask(free)
}

// ask sends one pull request. c.mu is held.
func (c *consumer) ask(n int) {
	if !c.started || c.err != nil || c.sub == nil || c.backoff > 0 {
		return
	}
	request := pullRequest{Expires: pullExpires, Batch: n}
	if c.ordered {
		request.Group, request.ID = pinGroup, c.order.pin
	}
	body, _ := json.Marshal(request) // a struct of numbers and strings
	if err := c.e.nc.PublishRequest(c.next, c.inbox+"."+strconv.Itoa(n), body); err != nil {
		return // there is no connection: restart comes with the next one
	}
	c.asked += n
	c.stale.Reset(pullExpires + pullGrace)
}

// take is what the server sends: events, and how requests ended.
func (c *consumer) take(m *nats.Msg) {
	if strings.HasPrefix(m.Reply, ackPrefix) {
		c.takeEvent(m)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Sub != c.sub || c.err != nil {
		return
	}
	batch, err := strconv.Atoi(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	if err != nil {
		return // the end of a request that kept the pin
	}
	if left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages")); err == nil {
		batch = left
	}
	text := m.Header.Get("Description")
	switch status := m.Header.Get("Status"); status {
	case "100":
		return
	case "404", "408":
		c.asked = max(c.asked-batch, 0)
	case "423": // another consumer is pinned now
		c.asked = max(c.asked-batch, 0)
		c.order.pin = ""
		c.order.anew(c)
	case "400", "409", "503": // deleted or changed, its leader elsewhere, or gone
		c.asked = max(c.asked-batch, 0)
		c.refused(status + " " + text)
		return
	default:
		c.asked = max(c.asked-batch, 0)
		c.e.o.Logger.Warn("NATS ended a pull request", "topic", c.topic, "subscription", c.subscr, "status", status, "description", text)
		c.refused(status)
		return
	}
	c.pull()
}

func (c *consumer) takeEvent(m *nats.Msg) {
	d, err := newDelivery(c, m)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.Sub != c.sub:
		return
	case c.err != nil: // it was on its way when the consumer was closed
		_ = c.e.nc.Publish(m.Reply, nakPayload)
		return
	}
	c.asked = max(c.asked-1, 0)
	if err != nil {
		// Not written by an engine; it would come for ever.
		c.e.o.Logger.Error("a message that is no event was dropped", "topic", c.topic, "error", err)
		_ = c.e.nc.Publish(m.Reply, termPayload)
		c.pull()
		return
	}
	if c.ordered {
		c.order.arrived(c, d, m.Header.Get("Nats-Pin-Id"))
	}
	c.out++
	c.buffer = append(c.buffer, d)
	if !c.ordered || c.order.settled {
		c.signal()
	}
	c.pull()
}

// refused looks, not at once, whether the subscription is still there, and asks again. c.mu is held.
func (c *consumer) refused(why string) {
	if c.backoff > 0 {
		return // somebody looks
	}
	c.backoff = 100 * time.Millisecond
	go c.look(why)
}

func (c *consumer) look(why string) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		select {
		case <-time.After(wait):
		case <-c.e.done:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
		have, err := c.e.js.Consumer(ctx, c.stream, c.durable)
		cancel()
		err = mapped(err)
		switch {
		case err == nil:
			c.configure(have.CachedInfo())
			c.mu.Lock()
			c.backoff = 0
			c.pull()
			c.mu.Unlock()
			return
		case errors.Is(err, engine.ErrNoTopic), errors.Is(err, engine.ErrNoSubscription):
			c.mu.Lock()
			c.endLocked(fmt.Errorf("subscription %s of topic %s: %w", c.subscr, c.topic, err))
			c.mu.Unlock()
			return
		}
		c.e.o.Logger.Debug("a subscription does not answer", "topic", c.topic, "subscription", c.subscr, "refused", why, "error", err)
		c.mu.Lock()
		ended := c.err != nil
		c.mu.Unlock()
		if ended {
			return
		}
	}
}

// signal wakes one Next. c.mu is held.
func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Next gives out the next event.
func (c *consumer) Next(ctx context.Context) (engine.Delivery, error) {
	for {
		c.mu.Lock()
		if !c.started {
			c.started = true
			c.pull()
		}
		if len(c.buffer) > 0 && (!c.ordered || c.order.may(c.buffer[0])) {
			d := c.buffer[0]
			c.buffer[0] = nil
			c.buffer = c.buffer[1:]
			c.order.allowed = 0
			if len(c.buffer) > 0 {
				c.signal()
			}
			c.mu.Unlock()
			return d, nil
		}
		if err := c.err; err != nil {
			c.signal() // for whoever else waits
			c.mu.Unlock()
			return nil, err
		}
		c.mu.Unlock()
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ended makes room for another event.
func (c *consumer) ended(d *delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	c.out--
	c.pull()
}

// Close stops asking and gives back at once what was not given out.
func (c *consumer) Close() {
	c.mu.Lock()
	if c.err != nil && errors.Is(c.err, engine.ErrClosed) {
		c.mu.Unlock()
		return
	}
	c.endLocked(engine.ErrClosed)
	buffer := c.buffer
	c.buffer = nil
	for _, d := range buffer {
		d.ended = true
		c.out--
	}
	pinned := c.ordered && c.order.pin != ""
	c.mu.Unlock()

	for _, d := range buffer {
		_ = c.e.nc.Publish(d.reply, nakPayload)
	}
	if pinned {
		_ = c.e.nc.Publish("$JS.API.CONSUMER.UNPIN."+c.stream+"."+c.durable, []byte(`{"group":"`+pinGroup+`"}`))
	}
	c.e.mu.Lock()
	delete(c.e.consumers, c)
	c.e.mu.Unlock()
}

// endLocked ends Next, and whatever runs for this consumer. c.mu is held.
func (c *consumer) endLocked(err error) {
	c.err = err
	c.stale.Stop()
	c.order.stop()
	// What is on its way still arrives, and goes back.
	if c.sub != nil && c.sub.Drain() != nil {
		_ = c.sub.Unsubscribe()
	}
	c.signal()
}
