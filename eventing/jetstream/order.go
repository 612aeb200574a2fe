package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	api "github.com/nats-io/nats.go/jetstream"
)

// order is what an ordered subscription needs beside the server's pinned client.
//
// The server pins one consumer and gives the events to it alone. When it pins another one, or
// gives events to a new connection, earlier events may be with somebody who is gone, or who
// still works: they would come again behind later ones. So a consumer that is pinned anew
// gives out one event at a time, each when everything below it is acknowledged, by whomever.
// That ends with the first one that comes for the first time (settle): what others were given
// before is below it, because new events are given out in their order.
//
// The server's floor decides and not its number of events in flight: one that is held here may
// be acknowledged late by another one, so a number does not say which they are.
type order struct {
	pin      string // what the server knows the pinned client by; "": not pinned
	settled  bool
	settling bool
	allowed  uint64      // the one event that may be given out before
	keep     *time.Timer // renews the pin
	last     time.Time   // an event came
}

// pinIdle is how long a pin is kept without an event.
const pinIdle = 30 * time.Second

func (o *order) reset() { o.stop(); *o = order{} }

// anew is for a new connection or the loss of the pin, c.mu is held: what was held goes back.
func (o *order) anew(c *consumer) {
	o.unsettle()
	for _, d := range c.buffer {
		d.ended = true
		c.out--
		_ = c.e.nc.Publish(d.reply, nakPayload)
	}
	c.buffer = nil
}

func (o *order) unsettle() { o.settled, o.allowed = false, 0 }

// may is whether the first event of the buffer may be given out.
func (o *order) may(first *delivery) bool { return o.settled || first.sequence == o.allowed }

func (o *order) stop() {
	if o.keep != nil {
		o.keep.Stop()
	}
}

// arrived takes one event in, before it is in the buffer. c.mu is held.
func (o *order) arrived(c *consumer, d *delivery, pin string) {
	if i := slices.IndexFunc(c.buffer, func(before *delivery) bool { return before.sequence == d.sequence }); i >= 0 {
		// It came again while it was held: the later one can be acknowledged.
		c.buffer[i].ended = true
		c.out--
		c.buffer = slices.Delete(c.buffer, i, i+1)
	}
	o.last = time.Now()
	if pin != "" && pin != o.pin {
		o.pin = pin
		o.unsettle()
		if o.keep == nil {
			o.keep = time.AfterFunc(pinTTL/4, func() { c.keepPin() })
		} else {
			o.keep.Reset(pinTTL / 4)
		}
	}
	if !o.settled && !o.settling {
		o.settling = true
		go c.settle()
	}
}

// keepPin renews the pin by a request that no event fits into, so that it holds while there is
// no room for more events.
func (c *consumer) keepPin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.order
	if c.err != nil || o.pin == "" || c.out == 0 && time.Since(o.last) > pinIdle {
		o.keep = nil
		return
	}
	body, _ := json.Marshal(pullRequest{Expires: pinTTL / 2, Batch: 1, MaxBytes: 1, Group: pinGroup, ID: o.pin})
	_ = c.e.nc.PublishRequest(c.next, c.inbox+".keep", body)
	o.keep.Reset(pinTTL / 4)
}

// settle runs while there is something in the buffer and it is not settled.
func (c *consumer) settle() {
	worked := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		c.mu.Lock()
		connection := c.connection
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
		floor, info, err := c.acknowledged(ctx)
		cancel()
		c.mu.Lock()
		o := &c.order
		if c.err != nil || !c.ordered || len(c.buffer) == 0 || o.settled {
			o.settling = false // the next event begins anew
			c.mu.Unlock()
			return
		}
		// A connection that was made anew meanwhile may be to a server that remembers less.
		if err == nil && connection == c.connection && connection == c.e.nc.Stats().Reconnects {
			slices.SortFunc(c.buffer, func(a, b *delivery) int { return cmp.Compare(a.sequence, b.sequence) })
			switch first := c.buffer[0]; {
			case floor+1 < first.sequence:
				if c.asked == 0 {
					// So that what is with others can come, however little room there is.
					c.ask(max(info.NumAckPending-len(c.buffer), 1))
				}
			case first.attempt == 1:
				o.settled, o.settling = true, false
				c.signal()
				c.mu.Unlock()
				return
			case o.allowed != first.sequence:
				o.allowed, wait = first.sequence, 5*time.Millisecond
				c.signal()
			}
		}
		if time.Since(worked) > c.ackWait/4 {
			worked = time.Now()
			for _, d := range c.buffer {
				_ = c.e.nc.Publish(d.reply, workingPayload)
			}
		}
		c.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-c.e.done:
			return
		}
	}
}

// acknowledged is the sequence up to which everything that is stored was acknowledged. The server's
// own floor stops at a gap in the stream until the next acknowledgement.
func (c *consumer) acknowledged(ctx context.Context) (uint64, *api.ConsumerInfo, error) {
	have, err := c.e.js.Consumer(ctx, c.stream, c.durable)
	if err != nil {
		return 0, nil, err
	}
	info := have.CachedInfo()
	floor := info.AckFloor.Stream
	c.mu.Lock()
	gap := len(c.buffer) > 0
	for _, d := range c.buffer {
		gap = gap && d.sequence > floor+1
	}
	c.mu.Unlock()
	if !gap {
		return floor, info, nil
	}
	stream, err := c.e.js.Stream(ctx, c.stream)
	if err != nil {
		return 0, nil, err
	}
	next, err := stream.GetMsg(ctx, floor+1, api.WithGetMsgSubject(subjectName(c.topic)))
	if err != nil {
		return 0, nil, err
	}
	return next.Sequence - 1, info, nil
}
