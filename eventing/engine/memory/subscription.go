package memory

import (
	"cmp"
	"slices"
	"time"

	"ebb.dev/ebb/eventing/engine"
)

type subscription struct {
	engine.Subscription
	topic     *topic
	next      uint64 // the first that was not given out yet
	pending   map[uint64]*pending
	consumers []*consumer // open, oldest first
	turn      int
	earliest  time.Time   // no event comes again before
	timer     *time.Timer // looks for those that do
	due       time.Time   // of timer
}

// pending was given out, or is about to be, and is not acknowledged.
type pending struct {
	sequence uint64
	attempt  int
	due      time.Time // when it is given out again
	holder   *consumer // nil: it waits to be given out again
	given    bool      // by Next
}

// serve hands out what there is to whoever has room. The store's mutex is held, as in all of this file.
func (s *subscription) serve(now time.Time) {
	if len(s.consumers) == 0 {
		return
	}
	s.topic.forget(now)
	again := s.again(now)
	for {
		c := s.choose()
		if c == nil {
			return
		}
		switch {
		case len(again) > 0:
			p := again[0]
			again = again[1:]
			p.attempt++
			s.give(c, p, now)
		case s.Ordered && s.others(c):
			return // their events come first
		case len(s.pending) < s.MaxInFlight && s.next <= s.topic.last():
			p := &pending{sequence: s.next, attempt: 1}
			s.pending[s.next] = p
			s.next++
			s.give(c, p, now)
		default:
			return
		}
	}
}

// again are the events that are given out again now, in order; for what comes later the timer is set.
func (s *subscription) again(now time.Time) []*pending {
	if s.earliest.After(now) {
		s.wait(s.earliest, now)
		return nil
	}
	var again []*pending
	var later time.Time
	for _, p := range s.pending {
		switch {
		case !p.due.After(now):
			s.take(p)
			again = append(again, p)
		case later.IsZero() || p.due.Before(later):
			later = p.due
		}
	}
	s.earliest = later
	if len(again) > 0 {
		s.earliest = now // they may find no room
	}
	if !later.IsZero() {
		s.wait(later, now)
	}
	slices.SortFunc(again, func(a, b *pending) int { return cmp.Compare(a.sequence, b.sequence) })
	if s.Ordered && len(again) > 0 {
		for _, p := range s.pending {
			if p.due.After(now) && p.holder != s.consumers[0] && p.sequence < again[len(again)-1].sequence {
				return nil // one that comes before them is still out
			}
		}
	}
	return again
}

// comes says that an event is given out again at a time.
func (s *subscription) comes(p *pending, at time.Time) {
	p.due = at
	if at.Before(s.earliest) || s.earliest.IsZero() {
		s.earliest = at
	}
}

func (s *subscription) wait(until, now time.Time) {
	if s.timer != nil {
		if !until.Before(s.due) {
			return // it looks again then
		}
		s.timer.Stop()
	}
	s.due = until
	store := s.consumers[0].engine.store
	s.timer = time.AfterFunc(until.Sub(now), func() {
		store.mu.Lock()
		defer store.mu.Unlock()
		s.timer = nil
		s.serve(time.Now())
	})
}

// choose is a consumer with room, one that somebody waits at before others; of an ordered subscription the oldest.
func (s *subscription) choose() *consumer {
	if s.Ordered {
		if c := s.consumers[0]; c.room() {
			return c
		}
		return nil
	}
	var chosen *consumer
	for range s.consumers {
		s.turn++
		c := s.consumers[s.turn%len(s.consumers)]
		switch {
		case !c.room():
		case c.waits && len(c.buffer) == 0:
			return c
		case chosen == nil:
			chosen = c
		}
	}
	return chosen
}

// others says whether anybody else has an event, or one waits to be given out again.
func (s *subscription) others(c *consumer) bool { return c.held != len(s.pending) }

func (s *subscription) give(c *consumer, p *pending, now time.Time) {
	p.holder, p.given = c, false
	s.comes(p, now.Add(s.AckWait))
	c.held++
	e := s.topic.events[p.sequence-s.topic.first]
	c.buffer = append(c.buffer, &delivery{consumer: c, event: e.event, at: e.at, sequence: p.sequence, attempt: p.attempt})
	c.signal()
	s.wait(p.due, now)
}

// take takes an event from whoever has it.
func (s *subscription) take(p *pending) {
	c := p.holder
	if c == nil {
		return
	}
	p.holder = nil
	c.held--
	if !p.given {
		c.buffer = slices.DeleteFunc(c.buffer, func(d *delivery) bool { return d.sequence == p.sequence })
	}
}

// end ends every consumer.
func (s *subscription) end(err error) {
	for _, c := range s.consumers {
		c.err = err
		c.signal()
	}
	s.consumers = nil
	if s.timer != nil {
		s.timer.Stop()
	}
}
