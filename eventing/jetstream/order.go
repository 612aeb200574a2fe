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
// be acknowledged late by another one, so a number does not say which they are. Only where the
// floor stands still does the number, and with care (gathering).
type order struct {
	pin      string // what the server knows the pinned client by; "": not pinned
	settled  bool
	settling bool
	allowed  uint64      // the one event that may be given out before
	keep     *time.Timer // renews the pin
	last     time.Time   // an event came
	gather   gathering
}

// gathering is how a consumer learns that it has everything that is not acknowledged, where the server's floor does not say
// so. After the server was killed its floor can stand still: events that had been acknowledged, and purged, are in progress
// again for it, and when it finds out it takes them away without looking what the next one in progress is. The floor moves
// again when nothing is in progress, and nothing moves while everybody waits for the floor.
//
// So where the floor has stood still for an AckWait the consumer gives back all that it holds, and what comes then is in progress for certain. It has all of it when it
// has as many as the server says and none was acknowledged meanwhile: as many are in progress as there were, and those
// that came for the first time.
type gathering struct {
	floor  uint64    // the last one
	stands time.Time // since when
	since  time.Time // zero: not begun
	before int       // in progress then
	fresh  int       // came for the first time since
}

// done is whether all that is in progress is held. c.mu is held.
func (g *gathering) done(held, inProgress int) bool {
	return !g.since.IsZero() && held == inProgress && inProgress == g.before+g.fresh
}

// missing asks for what is below the first event that is held, and is true when there is nothing. c.mu is held.
func (o *order) missing(c *consumer, floor uint64, inProgress int) bool {
	g := &o.gather
	if g.stands.IsZero() || floor != g.floor {
		*g = gathering{floor: floor, stands: time.Now()}
	}
	if g.done(len(c.buffer), inProgress) {
		return true
	}
	// What somebody else has comes when its AckWait ends, or is acknowledged: then it begins anew.
	since := time.Since(g.since)
	if time.Since(g.stands) > c.ackWait && (since > 2*c.ackWait || since > c.ackWait/4 && inProgress != g.before+g.fresh) {
		g.since, g.before, g.fresh = time.Now(), inProgress, 0
		o.giveBack(c)
	}
	// However little room there is: the server gives no more than may be in progress, and what is held comes again among it.
	if n := max(inProgress, 1) - c.asked; n > 0 {
		c.ask(n)
	}
	return false
}

// pinIdle is how long a pin is kept without an event.
const pinIdle = 30 * time.Second

func (o *order) reset() { o.stop(); *o = order{} }

// anew is for a new connection or the loss of the pin, c.mu is held: what was held goes back.
func (o *order) anew(c *consumer) {
	o.unsettle()
	o.giveBack(c)
}

// giveBack has the server give out again what is held. c.mu is held.
func (*order) giveBack(c *consumer) {
	for _, d := range c.buffer {
		d.ended = true
		c.out--
		_ = c.e.nc.Publish(d.reply, nakPayload)
	}
	c.buffer = nil
}

func (o *order) unsettle() { o.settled, o.allowed, o.gather = false, 0, gathering{} }

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
	if d.attempt == 1 {
		o.gather.fresh++
	}
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
				if o.missing(c, floor, info.NumAckPending) {
					o.settled, o.settling = true, false
					c.signal()
					c.mu.Unlock()
					return
				}
			case first.attempt == 1:
				o.settled, o.settling = true, false
				c.signal()
				c.mu.Unlock()
				return
			case o.allowed != first.sequence:
				o.allowed, o.gather, wait = first.sequence, gathering{}, 5*time.Millisecond
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
