package dispatcher

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

const (
	storeTimeout = 30 * time.Second // of one call of the engine
	nakTimeout   = 5 * time.Second
	storeRetry   = 100 * time.Millisecond
	storeWait    = 5 * time.Second // longest between two tries of the engine
)

// attempt is one try of one event, and what follows from it.
func (l *lane) attempt(it *item) {
	s := l.now.Load()
	sent := time.Now()
	a := l.d.send(l.hard, s.Owner, s.subscriber, it.event, s.Delivery.Timeout, true)
	now := time.Now()
	cut := l.hard.Err() != nil && a.Status == 0
	l.mu.Lock()
	if !cut {
		l.window.answered(now, sent, l.flying, s.Delivery.Timeout, a.Answer, delivery.Pause(s.Delivery, a.Answer), s.backoff)
	}
	l.flying--
	l.take(-attemptBytes)
	l.fill()
	l.mu.Unlock()
	if cut {
		l.leave(it)
		return
	}
	l.d.metrics.attempt(a.Status, now.Sub(sent))
	switch decision := delivery.Decide(s.Delivery, it.attempt, a.Answer, rand.Float64()); decision.Verdict {
	case delivery.Accept:
		l.finish(it, &l.count.accepted)
	case delivery.Derive:
		l.derive(s, it, a.reply)
	case delivery.Retry:
		l.count.retried.Add(1)
		l.again(s, it, decision.After)
	case delivery.Dead:
		l.bury(s, it, a.failure(s.subscriber))
	}
}

// finish acknowledges an event that is somewhere else now.
func (l *lane) finish(it *item, result *counter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.hard), storeTimeout)
	err := it.ack(ctx)
	cancel()
	if err != nil {
		// It comes again, here or elsewhere; here it is known.
		l.mu.Lock()
		if l.done == nil || len(l.done) >= doneMost {
			l.done = map[uint64]struct{}{}
		}
		l.done[it.sequence] = struct{}{}
		l.mu.Unlock()
	}
	result.Add(1)
	l.end(it)
}

// leave gives an event back that the lane cannot go on with.
func (l *lane) leave(it *item) {
	l.end(it) // before it can be given out again
	_ = l.giveBack(it, 0)
}

// again has an event tried once more after a while: by the engine, which outlives this process; of an ordered lane here, so that
// nothing of its partition goes before it.
func (l *lane) again(s *settings, it *item, after time.Duration) {
	if !s.Ordered {
		l.rest(after)
		l.end(it) // before it can be given out again
		_ = l.giveBack(it, after)
		return
	}
	l.mu.Lock()
	if l.stopping {
		l.mu.Unlock()
		l.leave(it)
		return
	}
	it.attempt++
	it.busy = false
	it.wait = time.AfterFunc(after, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		it.wait = nil
		if it.gone || l.stopping {
			return
		}
		l.ready.push(it)
		l.fill()
	})
	l.mu.Unlock()
}

// derive stores the reply, and then the event is done.
func (l *lane) derive(s *settings, it *item, reply *event.Event) {
	to := s.reply
	dest := s.ReplyTopic
	if to != nil {
		dest = to.URL
	}
	if s.ReplyTopic == "" && to == nil {
		l.count.dropped.Add(1)
		l.finish(it, &l.count.accepted)
		return
	}
	deadletter.Strip(reply)
	if !delivery.Follow(it.event, reply) {
		l.bury(s, it, delivery.Failure{Destination: dest, Code: http.StatusLoopDetected, Body: []byte("the hop limit of the reply is used up")})
		return
	}
	if s.ReplyTopic == "" {
		if a, ok := l.forward(s, to, reply); ok {
			l.finish(it, &l.count.replied)
		} else if l.ctx.Err() != nil {
			l.leave(it)
		} else {
			l.bury(s, it, a.failure(to))
		}
		return
	}
	switch err := l.store(s, s.ReplyTopic, reply, s.Delivery.Retry); {
	case err == nil:
		if replied := l.d.options.Replied; replied != nil {
			replied(s.ReplyTopic, reply)
		}
		l.finish(it, &l.count.replied)
	case errors.Is(err, errStopping):
		l.leave(it)
	default:
		l.bury(s, it, delivery.Failure{Destination: dest, Code: statusOf(err), Body: []byte("the reply is not stored: " + err.Error())})
	}
}

// forward sends an event on, with the subscription's retries. It holds the event meanwhile.
func (l *lane) forward(s *settings, to *endpoint, e *event.Event) (answer, bool) {
	for attempt := 1; ; attempt++ {
		a := l.d.send(l.hard, s.Owner, to, e, s.Delivery.Timeout, false)
		if a.Accepted() {
			return a, true
		}
		decision := delivery.Decide(s.Delivery, attempt, a.Answer, rand.Float64())
		if decision.Verdict != delivery.Retry || !l.sleep(l.ctx, decision.After) {
			return a, false
		}
	}
}

// store publishes until it is stored; a topic that is full is tried so many times again.
func (l *lane) store(s *settings, topic string, e *event.Event, full int) error {
	wait := storeRetry
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(l.hard, storeTimeout)
		_, err := l.d.options.Engine.Publish(ctx, topic, e)
		cancel()
		switch {
		case err == nil:
			return nil
		case l.hard.Err() != nil:
			return errStopping
		case errors.Is(err, engine.ErrTooLarge), errors.Is(err, engine.ErrNoTopic):
			return err
		case errors.Is(err, engine.ErrFull) && attempt > full:
			return err
		case attempt == 1:
			l.d.options.Logger.Warn("an event is not stored, trying again", "subscription", s.who(), "topic", topic, "error", err)
		}
		if !l.sleep(l.ctx, wait) {
			return errStopping
		}
		wait = min(2*wait, storeWait)
	}
}

// bury makes a dead letter of an event: it is sent to the sink for them, and if there is none, or it does not take it, stored.
func (l *lane) bury(s *settings, it *item, failure delivery.Failure) {
	dead := failure.Mark(it.event)
	if s.deadLetter != nil {
		a, ok := l.forward(s, s.deadLetter, dead)
		switch {
		case ok:
			l.finish(it, &l.count.dead)
			return
		case l.ctx.Err() != nil:
			l.leave(it)
			return
		}
		l.d.options.Logger.Warn("the sink of dead letters does not take one, it is stored", "subscription", s.who(),
			"sink", delivery.Redact(s.deadLetter.URL), "status", a.Status, "error", a.err)
	}
	deadletter.Address(dead, s.Owner, s.Name)
	topic := plan.DeadLetters(s.Topic)
	err := l.store(s, topic, dead, 0)
	if errors.Is(err, engine.ErrTooLarge) {
		dead.RemoveExtension(delivery.ErrorData)
		err = l.store(s, topic, dead, 0)
	}
	switch {
	case err == nil:
		l.finish(it, &l.count.dead)
	case errors.Is(err, errStopping):
		l.leave(it)
	default:
		// It is nowhere else, so it stays where it is.
		l.d.options.Logger.Error("a dead letter is not stored, its event stays", "subscription", s.who(), "topic", topic, "error", err)
		l.count.stuck.Add(1)
		l.again(s, it, stuckWait)
	}
}

// stuckWait is until an event is tried again whose dead letter nobody takes.
const stuckWait = time.Minute

// statusOf is what the ingress answers for an error of the engine.
func statusOf(err error) int {
	switch {
	case errors.Is(err, engine.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, engine.ErrNoTopic):
		return http.StatusNotFound
	case errors.Is(err, engine.ErrFull):
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// classOf is the class of a status: 2xx.
func classOf(status int) string {
	if status < 100 || status > 599 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}
