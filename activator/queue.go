package activator

import (
	"net/http"
	"sync/atomic"
	"time"
)

// queue is the waiting line of one revision and the pods that may be used. It is
// pure: no clock, no I/O, no lock; the revision calls it under its own.
//
// Between calls this always holds: while a ticket waits, no usable pod has room.
type queue struct {
	limit int    // requests a pod may serve at once; 0 means any number
	bound int    // tickets that may wait
	total *bound // tickets that may wait in the whole process

	usable     podHeap
	head, tail *ticket
	waiting    int
	arrivals   uint64
	grants     uint64
}

// ticket is one request's place: at most in one line, and with at most one pod.
type ticket struct {
	arrived time.Duration // since the process began
	seq     uint64        // order of arrival in its queue
	pod     *pod          // granted
	err     error         // or refused

	ready      chan struct{} // one token when pod or err is set while waiting
	queued     bool
	next, prev *ticket

	request *http.Request // whose headers count while it waits; nil counts nothing
	bytes   int64         // counted for it

	watch func() (left <-chan struct{}, stop func()) // how to learn that the client left, beside its context; may be nil
}

// bound counts what several queues share.
type bound struct {
	max int64
	n   atomic.Int64
}

func (b *bound) take() bool { return b.takeN(1) }

func (b *bound) takeN(n int64) bool {
	if b.n.Add(n) > b.max {
		b.n.Add(-n)
		return false
	}
	return true
}

// outcome is what became of a ticket at once.
type outcome int

const (
	granted outcome = iota // ticket.pod is set
	held                   // ticket.ready will get a token
	full                   // no place left
)

// enter gives a new ticket a pod, or a place at the end of the line.
func (q *queue) enter(t *ticket, now time.Duration) outcome {
	q.arrivals++
	t.seq, t.arrived = q.arrivals, now
	if q.waiting == 0 {
		if t.pod = q.take(); t.pod != nil {
			return granted
		}
	}
	if q.waiting >= q.bound || !q.total.take() {
		return full
	}
	q.insert(t)
	return held
}

// reenter takes a ticket back whose pod could not be reached, at the place its
// arrival gives it. It is never refused for want of room.
func (q *queue) reenter(t *ticket) outcome {
	t.pod, t.err = nil, nil
	if q.waiting == 0 || t.seq < q.head.seq {
		if t.pod = q.take(); t.pod != nil {
			return granted
		}
	}
	q.total.n.Add(1)
	q.insert(t)
	return held
}

// leave takes a waiting ticket out of the line; false if it was not waiting.
func (q *queue) leave(t *ticket) bool {
	if !t.queued {
		return false
	}
	if t.prev == nil {
		q.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		q.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.queued = nil, nil, false
	q.waiting--
	q.total.n.Add(-1)
	return true
}

// insert puts a ticket in the line by order of arrival.
func (q *queue) insert(t *ticket) {
	if t.ready == nil {
		t.ready = make(chan struct{}, 1)
	}
	after := q.tail
	for after != nil && after.seq > t.seq {
		after = after.prev
	}
	t.prev = after
	if after == nil {
		t.next, q.head = q.head, t
	} else {
		t.next, after.next = after.next, t
	}
	if t.next == nil {
		q.tail = t
	} else {
		t.next.prev = t
	}
	t.queued = true
	q.waiting++
}

// take picks the least loaded pod that has room, of several the one that was
// longest not picked, and counts a request there.
func (q *queue) take() *pod {
	if len(q.usable) == 0 {
		return nil
	}
	p := q.usable[0]
	if q.limit > 0 && p.inFlight+p.elsewhere >= q.limit {
		return nil
	}
	q.grants++
	p.inFlight++
	p.issued++
	p.picked = q.grants
	q.usable.fix(p)
	return p
}

// finish gives a pod's place back, to whoever waits longest.
func (q *queue) finish(p *pod) {
	p.inFlight--
	if p.index >= 0 {
		q.usable.fix(p)
	}
	q.dispatch()
}

// use lets a pod get requests; unuse stops that and leaves what it has.
func (q *queue) use(p *pod) {
	if p.index < 0 {
		q.usable.push(p)
		q.dispatch()
	}
}

func (q *queue) unuse(p *pod) {
	if p.index >= 0 {
		q.usable.remove(p)
	}
}

// occupy sets how many of a pod's places other activators have.
func (q *queue) occupy(p *pod, elsewhere int) {
	if p.elsewhere == elsewhere {
		return
	}
	p.elsewhere = elsewhere
	if p.index >= 0 {
		q.usable.fix(p)
	}
	q.dispatch()
}

// setLimit changes the requests a pod may serve at once.
func (q *queue) setLimit(n int) {
	if n == q.limit {
		return
	}
	q.limit = n
	q.dispatch()
}

// dispatch grants while somebody waits and a pod has room.
func (q *queue) dispatch() {
	for q.head != nil {
		p := q.take()
		if p == nil {
			return
		}
		t := q.head
		q.leave(t)
		t.pod = p
		t.ready <- struct{}{}
	}
}

// fail refuses everyone who waits.
func (q *queue) fail(err error) (n int) {
	for q.head != nil {
		q.refuse(q.head, err)
		n++
	}
	return n
}

// expire refuses those who arrived at or before the given time, and returns when
// the next one arrived; ok is false if nobody waits.
func (q *queue) expire(before time.Duration, err error) (next time.Duration, ok bool) {
	for q.head != nil && q.head.arrived <= before {
		q.refuse(q.head, err)
	}
	if q.head == nil {
		return 0, false
	}
	return q.head.arrived, true
}

func (q *queue) refuse(t *ticket, err error) {
	q.leave(t)
	t.err = err
	t.ready <- struct{}{}
}
