package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// order is what an ordered subscription needs beside the server's pinned client.
//
// The server pins one consumer and gives the events to it alone. When it pins another one, or
// gives events to a new connection, earlier events may be with somebody who is gone, or who
// still works: they would come again behind later ones. So a consumer that is pinned anew
// holds what it gets until every event that is given out and not acknowledged is its own
// (settle), and then gives them out by their sequence.
type order struct {
	pin      string // what the server knows the pinned client by; "": not pinned
	settled  bool
	settling bool
	keep     *time.Timer // renews the pin
	last     time.Time   // an event came
}

// pinIdle is how long a pin is kept without an event.
const pinIdle = 30 * time.Second

func (o *order) reset() { o.stop(); *o = order{} }

// anew is for a new connection, c.mu is held: what was held goes back, because a server that
// was killed may not remember that it gave it out.
func (o *order) anew(c *consumer) {
	o.settled = false
	for _, d := range c.buffer {
		d.ended = true
		c.out--
		_ = c.e.nc.Publish(d.reply, nakPayload)
	}
	c.buffer = nil
}

// lost is to be pinned no more.
func (o *order) lost() { o.pin, o.settled = "", false }

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
		o.pin, o.settled = pin, false
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

// settle waits until every event that is out is held here. It counts what is held before it asks
// the server: what arrives meanwhile makes it wait for longer, never for too short a time.
func (c *consumer) settle() {
	worked := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		c.mu.Lock()
		held, connection := len(c.buffer), c.connection
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
		have, err := c.e.js.Consumer(ctx, c.stream, c.durable)
		cancel()
		c.mu.Lock()
		if c.err != nil || !c.ordered || len(c.buffer) == 0 {
			c.order.settling = false // the next event begins anew
			c.mu.Unlock()
			return
		}
		// A connection that was made anew meanwhile may be to a server that remembers less.
		if err == nil && connection == c.connection && connection == c.e.nc.Stats().Reconnects {
			others := have.CachedInfo().NumAckPending - held
			if others <= 0 {
				slices.SortFunc(c.buffer, func(a, b *delivery) int { return cmp.Compare(a.sequence, b.sequence) })
				c.order.settled, c.order.settling = true, false
				c.signal()
				c.mu.Unlock()
				return
			}
			if c.asked == 0 {
				c.ask(others) // so that they can come, however little room there is
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
