package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

// Patience is how long a test waits for what must come; it is no measure of how fast it is.
const Patience = 20 * time.Second

// Run tests engines. open gives a new one each time, all on one store, as in several processes.
func Run(t *testing.T, open func(testing.TB) engine.Engine) {
	for _, test := range []struct {
		name string
		run  func(*world)
	}{
		{"an event comes as it was published", whole},
		{"source and id are stored once", duplicates},
		{"a full topic refuses and drops nothing", full},
		{"a full topic takes events when they were acknowledged", room},
		{"a topic keeps what was acknowledged when it is told to", keepAll},
		{"an event can be too large", tooLarge},
		{"what is not there is told apart", missing},
		{"a topic gets other limits and keeps its events", limits},
		{"a subscription gets what is published from then on and keeps its place", place},
		{"a subscription can be changed while it is used", changes},
		{"names are any text", names},
		{"consumers share the events of a subscription", share},
		{"subscriptions do not know of each other", apart},
		{"events come in order", inOrder},
		{"what a consumer did not acknowledge comes to another", redelivered},
		{"Nak gives out again", nak},
		{"Working starts the wait anew", working},
		{"no more is in flight than is allowed", inFlight},
		{"an ordered subscription goes to one consumer, and on to another in order", ordered},
		{"what a closed consumer had in advance comes to another at once", givenBack},
		{"Next ends", nextEnds},
		{"what is deleted is gone", deleted},
		{"a tail begins where it is told and disturbs nobody", tails},
		{"an engine that is closed says so", closed},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*Patience)
			defer cancel()
			w := &world{T: t, ctx: ctx, open: open}
			w.e = w.another()
			test.run(w)
		})
	}
}

var topics atomic.Int64

// world is one engine and what tests do with it.
type world struct {
	*testing.T
	ctx  context.Context
	e    engine.Engine
	open func(testing.TB) engine.Engine
}

func (w *world) another() engine.Engine {
	w.Helper()
	e := w.open(w.T)
	w.Cleanup(func() { _ = e.Close() })
	w.until("the engine is ready", func() bool { return e.Ready(w.ctx) == nil })
	return e
}

// until waits for a condition.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	deadline := time.Now().Add(Patience)
	for !is() {
		if time.Now().After(deadline) {
			w.Fatalf("did not come true: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func (w *world) topic(change ...func(*engine.Topic)) string {
	w.Helper()
	t := engine.Topic{Name: fmt.Sprintf("b.test.broker-%d.0a1b2c3d", topics.Add(1)), MaxBytes: 32 << 20}
	for _, c := range change {
		c(&t)
	}
	w.must(w.e.PutTopic(w.ctx, t))
	return t.Name
}

func (w *world) subscribe(topic string, change ...func(*engine.Subscription)) string {
	w.Helper()
	s := engine.Subscription{Topic: topic, Name: fmt.Sprintf("trigger-%d", topics.Add(1)), AckWait: Patience}
	for _, c := range change {
		c(&s)
	}
	w.must(w.e.PutSubscription(w.ctx, s))
	return s.Name
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) is(err, target error) {
	w.Helper()
	if !errors.Is(err, target) {
		w.Errorf("got %v; want: %v", err, target)
	}
}

func one(id int) *event.Event {
	return &event.Event{ID: fmt.Sprint(id), Source: "/test", Type: "t", Data: fmt.Appendf(nil, "event %d", id)}
}

// publish publishes the events with the ids from first to last.
func (w *world) publish(topic string, first, last int) {
	w.Helper()
	for id := first; id <= last; id++ {
		if _, err := w.e.Publish(w.ctx, topic, one(id)); err != nil {
			w.Fatalf("publish %d: %v", id, err)
		}
	}
}

func (w *world) consume(e engine.Engine, topic, subscription string) engine.Consumer {
	w.Helper()
	c, err := e.Consume(w.ctx, topic, subscription)
	w.must(err)
	w.Cleanup(c.Close)
	return c
}

func (w *world) next(c engine.Consumer) engine.Delivery {
	w.Helper()
	d, err := c.Next(w.ctx)
	w.must(err)
	return d
}

// take takes n events, acknowledges them and returns their ids.
func (w *world) take(c engine.Consumer, n int) []string {
	w.Helper()
	ids := []string{}
	for range n {
		d := w.next(c)
		ids = append(ids, d.Event().ID)
		w.must(d.Ack(w.ctx))
	}
	return ids
}

func ids(first, last int) []string {
	all := []string{}
	for id := first; id <= last; id++ {
		all = append(all, fmt.Sprint(id))
	}
	return all
}

func (w *world) equal(got, want any) {
	w.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("(-want +got)\n%s", diff)
	}
}

func (w *world) backlog(topic, subscription string) engine.Backlog {
	w.Helper()
	b, err := w.e.Backlog(w.ctx, topic, subscription)
	w.must(err)
	return b
}

func (w *world) untilBacklog(topic, subscription string, want engine.Backlog) {
	w.Helper()
	w.until(fmt.Sprintf("the backlog is %+v", want), func() bool { return w.backlog(topic, subscription) == want })
}

func whole(w *world) {
	topic := w.topic()
	c := w.consume(w.e, topic, w.subscribe(topic))
	events := []*event.Event{
		{
			ID: "1", Source: "/a b%20\"c\"", Type: "t", Subject: "Euro € 😀", Time: "2026-01-02T03:04:05.6Z", DataContentType: "application/json", DataSchema: "http://x/y",
			Extensions: []event.Attribute{{Name: "a1", Value: " x "}, {Name: "empty", Value: ""}, {Name: "z", Value: "100%"}}, Data: []byte{0, 1, 2, '\r', '\n', 255},
		},
		{ID: "2", Source: strings.Repeat("s", 500), Type: "t"},
	}
	before := time.Now()
	for i, e := range events {
		stored, err := w.e.Publish(w.ctx, topic, e)
		w.must(err)
		w.equal(stored, engine.Stored{Sequence: uint64(i) + 1})
		d := w.next(c)
		got := d.Event()
		if len(got.Data) == 0 {
			got.Data = nil
		}
		w.equal(got, e)
		w.equal(d.Sequence(), uint64(i)+1)
		w.equal(d.Attempt(), 1)
		if at := d.Published(); at.Before(before.Add(-time.Hour)) || at.After(time.Now().Add(time.Hour)) {
			w.Errorf("published at %v", at)
		}
		w.must(d.Ack(w.ctx))
	}
	w.untilBacklog(topic, mustName(c, w, topic), engine.Backlog{})
}

// mustName makes another subscription, which has nothing to do.
func mustName(_ engine.Consumer, w *world, topic string) string { return w.subscribe(topic) }

func duplicates(w *world) {
	topic := w.topic(func(t *engine.Topic) { t.Duplicates = time.Minute })
	name := w.subscribe(topic)
	pairs := [][2]string{{"a", "bc"}, {"ab", "c"}, {"1:a", "b"}, {"1", ":ab"}, {"", "x"}, {"ä", "ö"}, {strings.Repeat("l", 300), "1"}, {strings.Repeat("l", 300), "2"}}
	for round := range 2 {
		for i, pair := range pairs {
			e := &event.Event{Source: "s" + pair[0], ID: pair[1], Type: "t"}
			stored, err := w.e.Publish(w.ctx, topic, e)
			w.must(err)
			w.equal(stored, engine.Stored{Sequence: uint64(i) + 1, Duplicate: round == 1})
		}
	}
	stored, err := w.another().Publish(w.ctx, topic, &event.Event{Source: "sa", ID: "bc", Type: "other"})
	w.must(err)
	w.equal(stored.Duplicate, true)
	w.equal(w.backlog(topic, name), engine.Backlog{Waiting: uint64(len(pairs))})

	short := w.topic(func(t *engine.Topic) { t.Duplicates = 100 * time.Millisecond })
	w.until("the window passes", func() bool {
		stored, err := w.e.Publish(w.ctx, short, one(1))
		w.must(err)
		return !stored.Duplicate && stored.Sequence > 1
	})
}

func full(w *world) {
	for _, change := range []func(*engine.Topic){
		func(t *engine.Topic) { t.MaxEvents = 5 },
		func(t *engine.Topic) { t.MaxBytes = 2000 },
	} {
		topic := w.topic(change)
		c := w.consume(w.e, topic, w.subscribe(topic))
		stored := 0
		for ; ; stored++ {
			if stored > 100 {
				w.Fatal("the topic is never full")
			}
			_, err := w.e.Publish(w.ctx, topic, one(stored+1))
			if err != nil {
				w.is(err, engine.ErrFull)
				break
			}
		}
		again, err := w.e.Publish(w.ctx, topic, one(1))
		w.must(err)
		w.equal(again.Duplicate, true) // what is stored needs no room
		w.equal(w.take(c, stored), ids(1, stored))
	}
}

func room(w *world) {
	topic := w.topic(func(t *engine.Topic) { t.MaxEvents = 4 })
	first, second := w.consume(w.e, topic, w.subscribe(topic)), w.consume(w.e, topic, w.subscribe(topic))
	w.publish(topic, 1, 4)
	w.equal(w.take(first, 4), ids(1, 4))
	_, err := w.e.Publish(w.ctx, topic, one(5))
	w.is(err, engine.ErrFull) // the second has none of them
	w.equal(w.take(second, 2), ids(1, 2))
	w.publish(topic, 5, 6)
	_, err = w.e.Publish(w.ctx, topic, one(7))
	w.is(err, engine.ErrFull)
	w.equal(w.take(second, 4), ids(3, 6))
	w.equal(w.take(first, 2), ids(5, 6))

	// Many times as many as there is room for.
	for id := 7; id < 60; id++ {
		w.publish(topic, id, id)
		w.equal(w.take(first, 1), ids(id, id))
		w.equal(w.take(second, 1), ids(id, id))
	}
	lonely := w.topic(func(t *engine.Topic) { t.MaxEvents = 4 })
	w.publish(lonely, 1, 20) // nobody wants them
}

func keepAll(w *world) {
	topic := w.topic(func(t *engine.Topic) { t.MaxEvents, t.KeepAll = 3, true })
	c := w.consume(w.e, topic, w.subscribe(topic))
	w.publish(topic, 1, 3)
	w.take(c, 3)
	_, err := w.e.Publish(w.ctx, topic, one(4))
	w.is(err, engine.ErrFull)
	w.equal(w.tail(topic, engine.From{Sequence: 1}, 3), ids(1, 3))
}

func (w *world) tail(topic string, from engine.From, n int) []string {
	w.Helper()
	t, err := w.e.Tail(w.ctx, topic, from)
	w.must(err)
	defer t.Close()
	return w.read(t, n)
}

func (w *world) read(t engine.Tail, n int) []string {
	w.Helper()
	got := []string{}
	for range n {
		e, _, _, err := t.Next(w.ctx)
		w.must(err)
		got = append(got, e.ID)
	}
	return got
}

func tooLarge(w *world) {
	topic := w.topic(func(t *engine.Topic) { t.MaxEventBytes = 4000 })
	large := one(1)
	large.Data = make([]byte, 4001)
	_, err := w.e.Publish(w.ctx, topic, large)
	w.is(err, engine.ErrTooLarge)
	large.Data = nil
	large.SetExtension("x", strings.Repeat("x", 70000))
	_, err = w.e.Publish(w.ctx, topic, large)
	w.is(err, engine.ErrTooLarge)
	w.publish(topic, 1, 1)

	megabyte := w.topic()
	c := w.consume(w.e, megabyte, w.subscribe(megabyte))
	large = one(1)
	large.Data = slices.Repeat([]byte("0123456789abcdef"), 1<<16)
	_, err = w.e.Publish(w.ctx, megabyte, large)
	w.must(err)
	d := w.next(c)
	w.equal(len(d.Event().Data), 1<<20)
	w.must(d.Ack(w.ctx))
}

func missing(w *world) {
	_, err := w.e.Publish(w.ctx, "b.no.topic.x", one(1))
	w.is(err, engine.ErrNoTopic)
	w.is(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: "b.no.topic.x", Name: "s"}), engine.ErrNoTopic)
	_, err = w.e.Consume(w.ctx, "b.no.topic.x", "s")
	w.is(err, engine.ErrNoTopic)
	_, err = w.e.Backlog(w.ctx, "b.no.topic.x", "s")
	w.is(err, engine.ErrNoTopic)
	_, err = w.e.Tail(w.ctx, "b.no.topic.x", engine.From{})
	w.is(err, engine.ErrNoTopic)

	topic := w.topic()
	_, err = w.e.Consume(w.ctx, topic, "s")
	w.is(err, engine.ErrNoSubscription)
	_, err = w.e.Backlog(w.ctx, topic, "s")
	w.is(err, engine.ErrNoSubscription)
	w.must(w.e.DeleteSubscription(w.ctx, topic, "s"))
	w.must(w.e.DeleteSubscription(w.ctx, "b.no.topic.x", "s"))
	w.must(w.e.DeleteTopic(w.ctx, "b.no.topic.x"))
}

func limits(w *world) {
	topic := w.topic(func(t *engine.Topic) { t.MaxEvents = 8 })
	c := w.consume(w.e, topic, w.subscribe(topic))
	w.publish(topic, 1, 8)
	put := func(change func(*engine.Topic)) {
		w.Helper()
		t := engine.Topic{Name: topic, MaxBytes: 32 << 20, MaxEvents: 8}
		change(&t)
		w.must(w.e.PutTopic(w.ctx, t))
		w.must(w.e.PutTopic(w.ctx, t)) // again is no change
	}
	refused := func(what error, e *event.Event) {
		w.Helper()
		_, err := w.e.Publish(w.ctx, topic, e)
		w.is(err, what)
	}
	refused(engine.ErrFull, one(9))
	put(func(t *engine.Topic) { t.MaxEvents = 3 })
	refused(engine.ErrFull, one(9))
	put(func(t *engine.Topic) { t.MaxBytes = 500 })
	refused(engine.ErrFull, one(9))
	put(func(t *engine.Topic) { t.MaxEvents = 9 })
	w.publish(topic, 9, 9)
	large := one(10)
	large.Data = make([]byte, 2000)
	put(func(t *engine.Topic) { t.MaxEvents, t.MaxEventBytes = 10, 1000 })
	refused(engine.ErrTooLarge, large)
	put(func(t *engine.Topic) { t.MaxEvents, t.MaxEventBytes = 10, 4000 })
	_, err := w.e.Publish(w.ctx, topic, large)
	w.must(err)
	w.equal(w.take(c, 10), ids(1, 10))
}

func place(w *world) {
	topic := w.topic()
	w.publish(topic, 1, 3)
	name := w.subscribe(topic)
	w.publish(topic, 4, 9)
	c := w.consume(w.e, topic, name)
	w.equal(w.take(c, 2), ids(4, 5))
	c.Close()
	for _, s := range []engine.Subscription{
		{Topic: topic, Name: name, AckWait: time.Hour, MaxInFlight: 2},
		{Topic: topic, Name: name, AckWait: time.Minute, MaxInFlight: 7, Ordered: true},
		{Topic: topic, Name: name},
	} {
		w.must(w.e.PutSubscription(w.ctx, s))
		w.must(w.e.PutSubscription(w.ctx, s)) // again is no change
	}
	w.until("four events are left", func() bool {
		b := w.backlog(topic, name)
		return b.Waiting+b.InFlight == 4
	})
	got := w.take(w.consume(w.another(), topic, name), 4)
	slices.Sort(got) // some are given out again
	w.equal(got, ids(6, 9))
}

func changes(w *world) {
	topic := w.topic()
	name := w.subscribe(topic)
	c := w.consume(w.e, topic, name)
	w.publish(topic, 1, 2)
	w.equal(w.take(c, 2), ids(1, 2))
	for i, isOrdered := range []bool{true, false, true, false} {
		w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: topic, Name: name, Ordered: isOrdered, MaxInFlight: 10 + i}))
		w.publish(topic, 3+2*i, 4+2*i)
		w.equal(w.take(c, 2), ids(3+2*i, 4+2*i))
	}
}

func names(w *world) {
	all := []string{
		"b.a-b.c.1", "b.a.b-c.1", "b.a_b.c.1", "d.b.a-b.c.1", "b/a", "b a", "b*", "b>", "ä", "=2f", "=", "B.A-B.C.1",
		"b." + strings.Repeat("n", 63) + "." + strings.Repeat("x", 253) + ".1", "b." + strings.Repeat("n", 63) + "." + strings.Repeat("x", 253) + ".2",
	}
	consumers := map[string]engine.Consumer{}
	for _, name := range all {
		w.must(w.e.PutTopic(w.ctx, engine.Topic{Name: name, MaxBytes: 1 << 20}))
		w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: name, Name: name}))
		consumers[name] = w.consume(w.e, name, name)
	}
	for _, name := range all {
		_, err := w.e.Publish(w.ctx, name, &event.Event{ID: "1", Source: "/s", Type: "t", Subject: name})
		w.must(err)
	}
	for _, name := range all {
		d := w.next(consumers[name])
		w.equal(d.Event().Subject, name)
		w.must(d.Ack(w.ctx))
		w.untilBacklog(name, name, engine.Backlog{})
		w.must(w.e.DeleteTopic(w.ctx, name))
	}
	if err := w.e.PutTopic(w.ctx, engine.Topic{}); err == nil {
		w.Error("a topic without a name was made")
	}
}

func share(w *world) {
	const n = 200
	topic := w.topic()
	name := w.subscribe(topic)
	type got struct{ consumer, id string }
	taken := make(chan got, 2*n)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for i, e := range []engine.Engine{w.e, w.another(), w.another()} {
		c := w.consume(e, topic, name)
		c.SetInFlight(5)
		go func() {
			for {
				d, err := c.Next(ctx)
				if err != nil {
					return
				}
				if d.Ack(ctx) == nil {
					taken <- got{fmt.Sprint(i), d.Event().ID}
				}
			}
		}()
	}
	w.publish(topic, 1, n)
	seen, by := map[string]int{}, map[string]int{}
	for range n {
		select {
		case g := <-taken:
			seen[g.id]++
			by[g.consumer]++
		case <-w.ctx.Done():
			w.Fatalf("%d of %d events came", len(seen), n)
		}
	}
	w.equal(len(seen), n)
	w.untilBacklog(topic, name, engine.Backlog{})
	w.Logf("by consumer: %v", by)
}

func apart(w *world) {
	topic := w.topic()
	slow, quick := w.subscribe(topic), w.subscribe(topic)
	stuck := w.consume(w.e, topic, slow)
	c := w.consume(w.e, topic, quick)
	w.publish(topic, 1, 50)
	first := w.next(stuck)
	w.equal(w.take(c, 50), ids(1, 50))
	w.untilBacklog(topic, quick, engine.Backlog{})
	b := w.backlog(topic, slow)
	w.equal(b.Waiting+b.InFlight, uint64(50))
	w.must(first.Ack(w.ctx))
	w.equal(w.take(stuck, 49), ids(2, 50))
}

func inOrder(w *world) {
	const n = 500
	topic := w.topic()
	for _, isOrdered := range []bool{false, true} {
		name := w.subscribe(topic, func(s *engine.Subscription) { s.Ordered = isOrdered })
		c := w.consume(w.e, topic, name)
		done := make(chan []string, 1)
		go func() {
			got := []string{}
			for len(got) < n {
				d, err := c.Next(w.ctx)
				if err != nil {
					break
				}
				got = append(got, d.Event().ID)
				if d.Ack(w.ctx) != nil {
					break
				}
			}
			done <- got
		}()
		base := 0
		if isOrdered {
			base = n
		}
		w.publish(topic, base+1, base+n)
		w.equal(<-done, ids(base+1, base+n))
	}
}

func redelivered(w *world) {
	topic := w.topic()
	name := w.subscribe(topic, func(s *engine.Subscription) { s.AckWait = time.Second })
	dead := w.another()
	c := w.consume(dead, topic, name)
	c.SetInFlight(3)
	w.publish(topic, 1, 3)
	for range 3 {
		w.equal(w.next(c).Attempt(), 1)
	}
	w.must(dead.Close())
	left := w.consume(w.e, topic, name)
	got := map[string]bool{}
	for len(got) < 3 {
		d := w.next(left)
		if d.Attempt() < 2 {
			w.Errorf("event %s came for the first time", d.Event().ID)
		}
		if d.Ack(w.ctx) == nil {
			got[d.Event().ID] = true
		}
	}
	w.untilBacklog(topic, name, engine.Backlog{})
}

func nak(w *world) {
	topic := w.topic()
	name := w.subscribe(topic)
	c := w.consume(w.e, topic, name)
	w.publish(topic, 1, 1)
	for attempt := 1; attempt <= 3; attempt++ {
		d := w.next(c)
		w.equal(d.Attempt(), attempt)
		w.must(d.Nak(w.ctx, time.Duration(attempt-1)*50*time.Millisecond))
	}
	c.Close()
	d := w.next(w.consume(w.another(), topic, name)) // any consumer
	w.equal(d.Attempt(), 4)
	after := time.Now()
	w.must(d.Nak(w.ctx, 300*time.Millisecond))
	d = w.next(w.consume(w.e, topic, name))
	if waited := time.Since(after); waited < 250*time.Millisecond {
		w.Errorf("came again after %v, and 300 ms were asked for", waited)
	}
	w.must(d.Ack(w.ctx))
	w.untilBacklog(topic, name, engine.Backlog{})
}

func working(w *world) {
	const wait = 2 * time.Second
	for try := range 5 {
		topic := w.topic()
		name := w.subscribe(topic, func(s *engine.Subscription) { s.AckWait = wait })
		c := w.consume(w.e, topic, name)
		w.publish(topic, 1, 1)
		d := w.next(c)
		last, gap := time.Now(), time.Duration(0)
		for begin := time.Now(); time.Since(begin) < 2*wait; {
			w.must(d.Working(w.ctx))
			gap, last = max(gap, time.Since(last)), time.Now()
			time.Sleep(50 * time.Millisecond) // as one who works
		}
		w.must(d.Ack(w.ctx))
		w.untilBacklog(topic, name, engine.Backlog{})
		ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
		_, err := c.Next(ctx)
		cancel()
		if gap > wait/2 {
			w.Logf("try %d: this machine stood still for %v, which proves nothing", try, gap)
			continue
		}
		w.is(err, context.DeadlineExceeded)
		return
	}
}

func inFlight(w *world) {
	topic := w.topic()
	name := w.subscribe(topic, func(s *engine.Subscription) { s.MaxInFlight = 6 })
	first, second := w.consume(w.e, topic, name), w.consume(w.another(), topic, name)
	first.SetInFlight(2)
	w.publish(topic, 1, 30)
	w.untilBacklog(topic, name, engine.Backlog{Waiting: 28, InFlight: 2})
	second.SetInFlight(100)
	w.untilBacklog(topic, name, engine.Backlog{Waiting: 24, InFlight: 6})
	a, b := w.next(first), w.next(first)
	w.must(a.Ack(w.ctx))
	w.must(b.Ack(w.ctx))
	for range 26 {
		d := w.next(second)
		if got := w.backlog(topic, name).InFlight; got > 6 {
			w.Errorf("%d in flight, and 6 are allowed", got)
		}
		w.must(d.Ack(w.ctx))
		if got := w.backlog(topic, name); got.Waiting == 0 {
			break
		}
	}
	w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: topic, Name: name, AckWait: Patience, MaxInFlight: 1}))

	none := w.subscribe(topic)
	c := w.consume(w.e, topic, none)
	c.SetInFlight(0)
	w.publish(topic, 31, 33)
	w.equal(w.backlog(topic, none), engine.Backlog{Waiting: 3})
	c.SetInFlight(1)
	w.untilBacklog(topic, none, engine.Backlog{Waiting: 2, InFlight: 1})
	w.equal(w.take(c, 3), ids(31, 33))
}

func ordered(w *world) {
	topic := w.topic()
	name := w.subscribe(topic, func(s *engine.Subscription) { s.Ordered, s.AckWait, s.MaxInFlight = true, 2*time.Second, 50 })
	dead := w.another()
	first := w.consume(dead, topic, name)
	first.SetInFlight(4)
	w.publish(topic, 1, 20)
	a, b, c := w.next(first), w.next(first), w.next(first)
	second := w.consume(w.e, topic, name)
	second.SetInFlight(2)
	w.equal([]string{a.Event().ID, b.Event().ID, c.Event().ID}, ids(1, 3))
	w.must(b.Ack(w.ctx))
	w.must(dead.Close()) // with 1 and 3 in hand and 4 in advance
	got := []string{}
	for len(got) < 19 {
		d := w.next(second)
		if !slices.Contains(got, d.Event().ID) {
			got = append(got, d.Event().ID)
		}
		_ = d.Ack(w.ctx)
	}
	w.equal(got, append([]string{"1"}, ids(3, 20)...))
	w.untilBacklog(topic, name, engine.Backlog{})

	// One consumer at a time: while the first has some in hand, the second waits, however
	// often the first gets and gives back.
	w.publish(topic, 21, 40)
	d := w.next(second)
	third := w.consume(w.another(), topic, name)
	third.SetInFlight(5)
	second.Close()
	w.equal(d.Event().ID, "21")
	w.must(d.Ack(w.ctx))
	w.equal(w.take(third, 19), ids(22, 40))
}

func givenBack(w *world) {
	topic := w.topic()
	for _, isOrdered := range []bool{false, true} {
		name := w.subscribe(topic, func(s *engine.Subscription) { s.AckWait, s.Ordered = time.Hour, isOrdered })
		c := w.consume(w.e, topic, name)
		c.SetInFlight(10)
		base := 0
		if isOrdered {
			base = 10
		}
		w.publish(topic, base+1, base+10)
		w.untilBacklog(topic, name, engine.Backlog{InFlight: 10})
		d := w.next(c)
		c.Close()
		w.must(d.Ack(w.ctx)) // what was given out can still be acknowledged
		got := w.take(w.consume(w.another(), topic, name), 9)
		if !isOrdered {
			slices.SortFunc(got, func(a, b string) int { return len(a)*10 - len(b)*10 + strings.Compare(a, b) })
		}
		w.equal(got, ids(base+2, base+10))
	}
}

func nextEnds(w *world) {
	topic := w.topic()
	c := w.consume(w.e, topic, w.subscribe(topic))
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 2)
	go func() { _, err := c.Next(ctx); ended <- err }()
	cancel()
	w.is(<-ended, context.Canceled)
	for range 2 {
		go func() { _, err := c.Next(w.ctx); ended <- err }()
	}
	c.Close()
	c.Close()
	for range 2 {
		w.is(<-ended, engine.ErrClosed)
	}
}

func deleted(w *world) {
	topic := w.topic()
	name, other := w.subscribe(topic), w.subscribe(topic)
	c, d := w.consume(w.e, topic, name), w.consume(w.e, topic, other)
	w.publish(topic, 1, 1)
	w.take(c, 1)
	w.must(w.e.DeleteSubscription(w.ctx, topic, name))
	w.must(w.e.DeleteSubscription(w.ctx, topic, name))
	_, err := c.Next(w.ctx)
	w.is(err, engine.ErrNoSubscription)
	w.must(w.e.PutSubscription(w.ctx, engine.Subscription{Topic: topic, Name: name}))
	w.equal(w.backlog(topic, name), engine.Backlog{}) // a new one

	w.take(d, 1)
	w.must(w.e.DeleteTopic(w.ctx, topic))
	w.must(w.e.DeleteTopic(w.ctx, topic))
	_, err = d.Next(w.ctx)
	w.is(err, engine.ErrNoTopic)
	_, err = w.e.Publish(w.ctx, topic, one(1))
	w.is(err, engine.ErrNoTopic)
	w.must(w.e.PutTopic(w.ctx, engine.Topic{Name: topic, MaxBytes: 1 << 20}))
	stored, err := w.e.Publish(w.ctx, topic, one(1))
	w.must(err)
	w.equal(stored, engine.Stored{Sequence: 1})
}

func tails(w *world) {
	topic := w.topic()
	name := w.subscribe(topic)
	w.publish(topic, 1, 3)
	live, err := w.e.Tail(w.ctx, topic, engine.From{})
	w.must(err)
	defer live.Close()
	w.equal(w.tail(topic, engine.From{Sequence: 2}, 2), ids(2, 3))

	third, err := w.e.Tail(w.ctx, topic, engine.From{Sequence: 3})
	w.must(err)
	e, stored, at, err := third.Next(w.ctx)
	third.Close()
	w.must(err)
	w.equal(e, one(3))
	w.equal(stored, engine.Stored{Sequence: 3})
	w.equal(w.tail(topic, engine.From{Time: at}, 1), ids(3, 3))

	w.publish(topic, 4, 6)
	w.equal(w.read(live, 3), ids(4, 6))
	w.equal(w.backlog(topic, name), engine.Backlog{Waiting: 6})
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_, _, _, err = live.Next(ctx)
	w.is(err, context.Canceled)
	w.equal(w.take(w.consume(w.e, topic, name), 6), ids(1, 6))
}

func closed(w *world) {
	topic := w.topic()
	e := w.another()
	c := w.consume(e, topic, w.subscribe(topic))
	w.must(e.Close())
	w.must(e.Close())
	_, err := c.Next(w.ctx)
	w.is(err, engine.ErrClosed)
	_, err = e.Publish(w.ctx, topic, one(1))
	w.is(err, engine.ErrUnavailable)
	w.is(e.Ready(w.ctx), engine.ErrUnavailable)
}
