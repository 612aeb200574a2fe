package dispatcher

import (
	"context"
	"reflect"
	"sync"
	"time"

	"ebb.dev/ebb/eventing/plan"
)

// beginning is how many subscriptions ask the engine for a consumer at once.
const beginning = 32

// Dispatcher serves subscriptions. Its methods may be called from several goroutines.
type Dispatcher struct {
	options Options
	clients *clients
	budget  budget
	metrics *metrics
	starts  chan struct{}
	report  *reports

	ctx  context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	lanes   map[string]*lane
	closing map[string]chan struct{} // names of lanes that end, until they have
	ending  map[*lane]struct{}       // these lanes
	stopped bool
}

// New is a Dispatcher that serves nothing yet. Drain it.
func New(o Options) *Dispatcher {
	o = o.complete()
	d := &Dispatcher{
		options: o, clients: &clients{options: o, by: map[string]*client{}, users: map[*client]int{}},
		budget: budget{total: o.MaxBytes}, starts: make(chan struct{}, beginning),
		lanes: map[string]*lane{}, closing: map[string]chan struct{}{}, ending: map[*lane]struct{}{},
	}
	d.clients.plain.dial = d.clients.dial
	d.metrics = newMetrics(d)
	d.ctx, d.end = context.WithCancel(context.Background())
	d.work.Go(d.keep)
	if o.Reporter != nil {
		d.report = newReports(d)
		d.work.Go(d.report.run)
	}
	return d
}

// Set serves a subscription, or changes how it is served: events in flight end as they began. What is wrong with it is logged;
// a filter that does not compile matches nothing. Set does not wait for the engine.
func (d *Dispatcher) Set(s plan.Subscription) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	there := d.lanes[s.Name]
	if there != nil && reflect.DeepEqual(there.now.Load().Subscription, s) {
		return
	}
	ready, err := d.settings(s)
	if err != nil {
		d.options.Logger.Error("a subscription is not right", "subscription", who(s.Owner), "error", err)
	}
	if there != nil {
		was := there.now.Load()
		if was.Topic == s.Topic && was.Ordered == s.Ordered && was.PartitionKey == s.PartitionKey {
			there.use(ready)
			d.clients.release(was.endpoints()...)
			return
		}
		d.close(there)
	}
	l := newLane(d, ready)
	d.lanes[s.Name] = l
	before := d.closing[s.Name]
	d.work.Go(func() {
		if before != nil && s.Ordered {
			<-before // what it has comes first
		}
		l.run()
	})
}

// Remove ends a subscription: nothing more is taken, what is in flight is finished, the rest given back.
func (d *Dispatcher) Remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lanes[name]; l != nil {
		delete(d.lanes, name)
		d.close(l)
	}
}

// close ends a lane in the background. The mutex is held.
func (d *Dispatcher) close(l *lane) {
	done, before := make(chan struct{}), d.closing[l.name]
	d.closing[l.name] = done
	d.ending[l] = struct{}{}
	l.stop()
	d.busy(l)
	d.work.Go(func() {
		if before != nil {
			<-before
		}
		l.drain(d.ctx)
		d.clients.release(l.now.Load().endpoints()...)
		d.mu.Lock()
		delete(d.ending, l)
		if d.closing[l.name] == done {
			delete(d.closing, l.name)
		}
		d.mu.Unlock()
		close(done)
	})
}

// Drain ends the dispatcher: it takes no more events, gives back at once what is not in flight, and returns when what is in
// flight has ended; when ctx ends before, that is broken off, and given back too. Set does nothing from then on.
func (d *Dispatcher) Drain(ctx context.Context) {
	d.mu.Lock()
	d.stopped = true
	for name, l := range d.lanes {
		delete(d.lanes, name)
		d.close(l)
	}
	closing := make([]chan struct{}, 0, len(d.closing))
	for _, done := range d.closing {
		closing = append(closing, done)
	}
	d.mu.Unlock()
	stop := context.AfterFunc(ctx, d.end)
	for _, done := range closing {
		<-done
	}
	stop()
	d.end()
	d.work.Wait()
	d.clients.close()
}

// keep tells the engine of events that take long.
func (d *Dispatcher) keep() {
	every := d.options.AckWait / 3
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-d.ctx.Done():
			return
		}
		now := time.Now()
		d.clients.plain.sweep(now)
		for _, l := range d.all() {
			l.keep(now, every/2)
		}
	}
}

// all are the lanes there are, with those that end and still have something in flight.
func (d *Dispatcher) all() []*lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	lanes := make([]*lane, 0, len(d.lanes)+len(d.ending))
	for _, l := range d.lanes {
		lanes = append(lanes, l)
	}
	for l := range d.ending {
		lanes = append(lanes, l)
	}
	return lanes
}

// begin waits for a place to ask the engine for a consumer; begun leaves it.
func (d *Dispatcher) begin(ctx context.Context) error {
	select {
	case d.starts <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Dispatcher) begun() { <-d.starts }

// busy says that a lane's backlog may have changed.
func (d *Dispatcher) busy(l *lane) {
	if d.report != nil {
		d.report.changed(l)
	}
}
