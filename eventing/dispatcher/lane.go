package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ebb.dev/ebb/eventing/deadletter"
	"ebb.dev/ebb/eventing/engine"
)

const (
	// An ordered lane asks for so many ahead, because the events of one partition that waits are in the way of others. It
	// is what an engine gives out at most, so that whoever takes over gets all that was out.
	orderedAhead = 1024
	// Others ask for as many as can be in flight and as many again; and for more while the filter lets few through.
	scanAhead = 256
	passing   = 32   // acknowledgements at once of events that the filter does not let through
	doneMost  = 4096 // sequences that were done and not acknowledged
)

// lane serves one subscription.
type lane struct {
	d    *Dispatcher
	name string
	now  atomic.Pointer[settings]

	ctx    context.Context // until the lane stops: to take events and to wait
	stop   context.CancelFunc
	hard   context.Context // until what is in flight has to end too
	cut    context.CancelFunc
	puller chan struct{} // closed when the goroutine that takes events has ended
	work   sync.WaitGroup
	pass   chan struct{}

	count counts

	mu       sync.Mutex
	stopping bool
	consumer engine.Consumer
	bound    int // of the consumer
	held     map[uint64]*item
	done     map[uint64]struct{} // ended here, but the engine may not know
	bytes    int64               // of held, and of attempts
	ready    queue
	keys     map[string]*queue // ordered: those behind the first of each partition
	flying   int
	window   window
	timer    *time.Timer // when the window opens
	resting  []time.Time // when events that were given back are due; only where backlogs are reported
	scan     int         // asked for ahead because of the filter
	passed   int         // since scan changed
	seen     float64     // events of late
	matched  float64     // of these

	bounding sync.Mutex // of SetInFlight
}

func newLane(d *Dispatcher, s *settings) *lane {
	l := &lane{
		d: d, name: s.Name, puller: make(chan struct{}), pass: make(chan struct{}, passing),
		window: newWindow(s.Parallelism), scan: 1,
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.hard, l.cut = context.WithCancel(context.Background())
	l.now.Store(s)
	return l
}

// use goes on with other settings, from the next attempt of each event on.
func (l *lane) use(s *settings) {
	l.now.Store(s)
	l.mu.Lock()
	l.window.limit(s.Parallelism)
	l.fill()
	l.mu.Unlock()
	l.adjust()
}

// run takes events until the lane stops.
func (l *lane) run() {
	defer close(l.puller)
	for failures := 0; l.ctx.Err() == nil; {
		err := l.consume(func() { failures = 0 })
		if l.ctx.Err() != nil {
			return
		}
		failures++
		if failures == 1 {
			l.d.options.Logger.Warn("no events are taken, trying again", "subscription", l.now.Load().who(), "error", err)
		}
		// A second, then up to half a minute: the engine may be away, or the subscription not be there yet.
		l.sleep(l.ctx, time.Duration((0.5+rand.Float64())*float64(min(time.Second<<min(failures-1, 5), 30*time.Second))))
	}
}

func (l *lane) consume(works func()) error {
	s := l.now.Load()
	if err := l.d.begin(l.ctx); err != nil {
		return err
	}
	c, err := l.d.options.Engine.Consume(l.ctx, s.Topic, s.Name)
	l.d.begun()
	if err != nil {
		return err
	}
	defer c.Close()
	l.mu.Lock()
	l.consumer, l.bound = c, 0
	l.mu.Unlock()
	l.adjust()
	for {
		d, err := c.Next(l.ctx)
		if err != nil {
			return err
		}
		works()
		l.got(d)
	}
}

// got is one event from the engine.
func (l *lane) got(d engine.Delivery) {
	s, e, now := l.now.Load(), d.Event(), time.Now()
	l.mu.Lock()
	if there := l.held[d.Sequence()]; there != nil {
		l.mu.Unlock()
		l.count.again.Add(1)
		if !there.replace(d, now) {
			l.past(d, true)
		}
		return
	}
	_, done := l.done[d.Sequence()]
	l.mu.Unlock()
	only, e := deadletter.For(e)
	if done || only != "" && only != l.name || only == "" && !s.filter.Match(e) {
		l.past(d, done)
		return
	}
	it := &item{event: e, sequence: d.Sequence(), attempt: d.Attempt(), size: int64(e.Size()), delivery: d, touched: now}
	if s.Ordered {
		it.key = s.partition(e)
	}
	l.mu.Lock()
	l.tally(true)
	if l.held == nil {
		l.held = map[uint64]*item{}
	}
	l.held[it.sequence] = it
	l.take(it.size)
	if !l.stopping {
		l.enqueue(it)
		l.fill()
	}
	l.mu.Unlock()
	l.adjust()
	l.d.busy(l)
}

// past acknowledges an event that is not for this lane, or was done before.
func (l *lane) past(d engine.Delivery, done bool) {
	if !done {
		l.count.filtered.Add(1)
		l.mu.Lock()
		l.tally(false)
		l.mu.Unlock()
		l.adjust()
	}
	select {
	case l.pass <- struct{}{}:
	case <-l.ctx.Done():
		return // it comes again
	}
	ctx := l.ctx // what is not for this lane may come again, here or elsewhere
	if done {
		ctx = l.hard
	}
	l.work.Go(func() {
		defer func() { <-l.pass }()
		if err := d.Ack(ctx); err == nil && done {
			l.mu.Lock()
			delete(l.done, d.Sequence())
			l.mu.Unlock()
		}
	})
}

// tally keeps how many the filter lets through, and asks for more ahead while these are few. The mutex is held.
func (l *lane) tally(match bool) {
	if l.seen++; l.seen > 1000 {
		l.seen, l.matched = l.seen/2, l.matched/2
	}
	if match {
		l.matched++
		if l.ready.len() > l.window.whole() {
			l.scan = max(l.scan/2, 1)
		}
		return
	}
	if l.passed++; l.passed >= l.scan {
		l.scan, l.passed = min(2*l.scan, scanAhead), 0
	}
}

// share is how many of the events of late were for this lane.
func (l *lane) share() float64 { return (l.matched + 1) / (l.seen + 1) }

// enqueue puts an event where it waits. The mutex is held.
func (l *lane) enqueue(it *item) {
	if !l.now.Load().Ordered {
		l.ready.push(it)
		return
	}
	if l.keys == nil {
		l.keys = map[string]*queue{}
	}
	if q := l.keys[it.key]; q != nil {
		q.push(it)
		return
	}
	l.keys[it.key] = &queue{}
	l.ready.push(it)
}

// fill begins as many deliveries as may be in flight. The mutex is held.
func (l *lane) fill() {
	for l.ready.len() > 0 && !l.stopping {
		now := time.Now()
		if !l.window.room(now, l.flying) {
			l.later(now)
			return
		}
		if l.flying > 0 && !l.d.budget.more(l.bytes) {
			return // one that ends makes room
		}
		it := l.ready.pop()
		it.busy = true
		l.flying++
		l.take(attemptBytes)
		l.work.Go(func() { l.attempt(it) })
	}
}

// later goes on when the pause is over. The mutex is held.
func (l *lane) later(now time.Time) {
	wait := l.window.until.Sub(now)
	if wait <= 0 || l.timer != nil {
		return
	}
	l.timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.timer = nil
		l.fill()
	})
}

func (l *lane) take(n int64) {
	l.bytes += n
	l.d.budget.add(n)
}

// drop ends what the lane has to do with an event; the next of its partition may go. The mutex is held.
func (l *lane) drop(it *item) {
	if it.gone {
		return
	}
	it.gone, it.busy = true, false
	delete(l.held, it.sequence)
	if len(l.held) == 0 {
		l.held = nil
	}
	l.take(-it.size)
	if q := l.keys[it.key]; q != nil {
		if q.len() > 0 {
			l.ready.push(q.pop())
		} else {
			delete(l.keys, it.key)
		}
	}
}

// end is drop for the goroutine that has the event.
func (l *lane) end(it *item) {
	l.mu.Lock()
	l.drop(it)
	l.fill()
	l.mu.Unlock()
	l.adjust()
	l.d.busy(l)
}

// adjust tells the consumer how many to ask for.
func (l *lane) adjust() {
	l.bounding.Lock()
	defer l.bounding.Unlock()
	l.mu.Lock()
	c, n := l.consumer, l.ahead()
	if c == nil || n == l.bound || l.stopping {
		l.mu.Unlock()
		return
	}
	l.bound = n
	l.mu.Unlock()
	c.SetInFlight(n)
}

// ahead is how many events to have from the engine at most. The mutex is held.
func (l *lane) ahead() int {
	if len(l.held) > 0 && !l.d.budget.more(l.bytes) {
		return len(l.held)
	}
	if l.now.Load().Ordered {
		return orderedAhead
	}
	n := max(2*l.window.whole(), l.scan)
	for n&(n-1) != 0 { // a power of two, so that it changes seldom
		n &= n - 1
	}
	return max(n, 2)
}

// keep tells the engine of what is still being worked on.
func (l *lane) keep(now time.Time, every time.Duration) {
	l.mu.Lock()
	if len(l.held) == 0 {
		l.mu.Unlock()
		return
	}
	items := make([]*item, 0, len(l.held))
	for _, it := range l.held {
		items = append(items, it)
	}
	l.mu.Unlock()
	for _, it := range items {
		if err := it.working(l.hard, now, every); err != nil {
			return // the engine is away; what it gives out again is known here
		}
	}
}

// drain ends the lane: what is in flight is finished until ctx ends, what waits is given back at once.
func (l *lane) drain(ctx context.Context) {
	l.stop()
	<-l.puller
	l.mu.Lock()
	l.stopping = true
	if l.timer != nil {
		l.timer.Stop()
	}
	var back []*item
	for _, it := range l.held {
		if !it.busy {
			back = append(back, it)
		}
	}
	for _, it := range back {
		if it.wait != nil {
			it.wait.Stop()
		}
		it.gone = true
		delete(l.held, it.sequence)
		l.take(-it.size)
	}
	l.keys, l.ready = nil, queue{}
	l.mu.Unlock()
	slices.SortFunc(back, func(a, b *item) int { return cmp.Compare(a.sequence, b.sequence) })
	stopped := context.AfterFunc(ctx, l.cut)
	for _, it := range back {
		if l.giveBack(it, 0) != nil {
			break // the engine is away; they come again after the AckWait
		}
	}
	l.work.Wait()
	stopped()
	l.cut()
	l.mu.Lock()
	l.d.budget.add(-l.bytes)
	l.bytes = 0
	l.mu.Unlock()
}

// giveBack has the engine give it out again.
func (l *lane) giveBack(it *item, after time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.hard), nakTimeout)
	defer cancel()
	return it.nak(ctx, after) // if it does not hear it, the AckWait ends
}

func (l *lane) sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errStopping = errors.New("the dispatcher stops")
