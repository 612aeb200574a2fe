package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/test/bench/figures"
)

const (
	splitMethod = "from sending the PATCH of a Service that gives 100 % of its traffic to its other warm Revision, to the moment when the last answer of the old one arrived, " +
		"under 8 connections that ask all the time (each about every 4 ms)"
	allMethod = "the later of that and of the moment when the last gateway had acknowledged the new configuration"
	// gateways in the second measurement: the real Envoy and so many clients of the same protocol.
	gatewaysInAll = 20
)

// split measures changes of a split when so many Services exist, with one gateway and
// with twenty.
func (b *bench) split(ctx context.Context, services int) error {
	if err := b.fill(ctx, services-1); err != nil { // and the one of which the split is changed
		return err
	}
	name := fmt.Sprintf("split-%d", services)
	route, err := b.twoRevisions(ctx, name)
	if err != nil {
		return err
	}
	writes, err := b.plainWrites(ctx)
	if err != nil {
		return err
	}
	defer writes.stop()
	if err := b.splits(ctx, name, services, "split.", nil, writes); err != nil {
		return err
	}
	gateways, err := b.gateways(ctx, gatewaysInAll-1, route)
	if err != nil {
		return err
	}
	defer gateways.close()
	if err := b.ready(ctx, name); err != nil {
		return err
	}
	return b.splits(ctx, name, services, fmt.Sprintf("split.gateways_%d.", gatewaysInAll), gateways, writes)
}

// twoRevisions makes a Service with two warm Revisions, and returns the name of its
// Route's configuration.
func (b *bench) twoRevisions(ctx context.Context, name string) (string, error) {
	f := form{annotations: map[string]string{serving.MinScaleAnnotation: "1"}, env: map[string]string{"TARGET": "one"}}
	if err := b.service(ctx, name, f); err != nil {
		return "", err
	}
	var s v1.Service
	if err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
		return "", err
	}
	s.Spec.Template.Spec.Containers[0].Env[0].Value = "two"
	if err := b.Update(ctx, &s); err != nil {
		return "", err
	}
	if err := b.ready(ctx, name); err != nil {
		return "", err
	}
	if _, err := b.route(ctx, name, revision(name, 0), revision(name, 1)); err != nil {
		return "", err
	}
	if err := b.ready(ctx, name); err != nil {
		return "", err
	}
	var r v1.Route
	if err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &r); err != nil {
		return "", err
	}
	return translate.RouteName(r.Namespace, r.Name, string(r.UID)), nil
}

func revision(service string, i int) string { return fmt.Sprintf("%s-%05d", service, i%2+1) }

// route gives all traffic to one Revision and keeps the other one warm under a tag. It returns
// the generation of the Service with that.
func (b *bench) route(ctx context.Context, name, to, other string) (int64, error) {
	patch := fmt.Appendf(nil, `{"spec":{"traffic":[{"revisionName":%q,"percent":100,"latestRevision":false},{"revisionName":%q,"percent":0,"tag":"other","latestRevision":false}]}}`, to, other)
	s := &v1.Service{}
	s.Namespace, s.Name = namespace, name
	err := b.Patch(ctx, s, client.RawPatch("application/merge-patch+json", patch))
	return s.Generation, err
}

// splits changes the split n times.
func (b *bench) splits(ctx context.Context, name string, services int, key string, gateways *gateways, writes *writes) error {
	var last, all, status, floor []float64
	defer func() {
		with := fmt.Sprintf("; %d Services exist, one gateway", services)
		if gateways != nil {
			with = fmt.Sprintf("; %d Services exist; %d gateways: a real Envoy and %d clients of delta ADS that acknowledge", services, gatewaysInAll, gatewaysInAll-1)
		}
		suffix := fmt.Sprintf("_ms.%d", services)
		if gateways != nil {
			b.sheet.Quantiles(key+"*"+suffix, "ms", splitMethod+"; "+allMethod+with, all, 50, 90, 99)
			b.sheet.Quantiles(key+"envoy_*"+suffix, "ms", splitMethod+with, last, 50, 99)
		} else {
			b.sheet.Quantiles(key+"*"+suffix, "ms", splitMethod+with, last, 50, 90, 99)
			b.sheet.Quantiles(key+"floor_*"+suffix, "ms", "three writes of a ConfigMap one after the other, each when a watch has shown the one before, as a change goes from the Service's spec by the Route's spec to the Route's status; in turns with the changes"+with, floor, 50, 99)
			b.sheet.Quantiles(key+"over_floor_*"+suffix, "ms", "by pairs; "+splitMethod+", less three plain writes"+with, figures.Pairwise(last, floor, figures.Minus), 50)
			if a, ok := b.sheet.Get(fmt.Sprintf("split.p50_ms.%d", few)); ok && services != few && len(last) > 0 {
				b.add(fmt.Sprintf("split.p50_growth.%d", services), "x", figures.Median(last)/a.Value, 0, fmt.Sprintf("split.p50_ms.%d over split.p50_ms.%d of the same run: 1 is flat", services, few))
			}
		}
		b.sheet.Quantiles(key+"ready_*"+suffix, "ms", "from sending the PATCH until a watch shows the Service Ready again, which is when every gateway has acknowledged and the status is written"+with, status, 50, 99)
	}()
	for i := range b.n {
		s, err := b.change(ctx, name, revision(name, i), revision(name, i+1), gateways)
		if err != nil {
			return err
		}
		last, status, all = append(last, milliseconds(s.last)), append(status, milliseconds(s.ready)), append(all, milliseconds(s.all))
		if gateways == nil {
			t, err := writes.three(ctx)
			if err != nil {
				return err
			}
			floor = append(floor, milliseconds(t))
		}
		b.progress("change %d of %d: %.0f ms", i+1, b.n, all[i])
	}
	return nil
}

// changed is what one change took, from sending it.
type changed struct{ last, all, ready time.Duration }

// change the split once, under requests all the time.
func (b *bench) change(ctx context.Context, name, from, to string, gateways *gateways) (c changed, err error) {
	callers := b.call(ctx, b.running.Gateway, host(name), from)
	defer func() {
		sent, lost := callers.stop()
		b.count(sent, lost)
	}()
	if err := callers.await(ctx, from); err != nil {
		return c, err
	}
	w, err := b.watch(ctx, name)
	if err != nil {
		return c, err
	}
	defer w.Stop()
	began := time.Now()
	generation, err := b.route(ctx, name, to, from)
	if err != nil {
		return c, err
	}
	if err := readyAt(ctx, w, generation); err != nil {
		return c, fmt.Errorf("service %s: %w", name, err)
	}
	c.ready = time.Since(began)
	if err := callers.await(ctx, to); err != nil {
		return c, err
	}
	c.last = max(0, callers.lastOld().Sub(began))
	c.all = c.last
	if gateways != nil {
		acknowledged, err := gateways.last(began)
		if err != nil {
			return c, err
		}
		c.all = max(c.last, acknowledged.Sub(began))
	}
	return c, nil
}

// callers ask all the time and note which Revision answers.
type callers struct {
	old    string
	cancel context.CancelFunc
	group  sync.WaitGroup
	each   []caller
}

type caller struct {
	lastOld    atomic.Int64 // when the last answer of the old Revision arrived, ns
	streak     atomic.Int64 // answers in a row: of the old one below zero, of others above
	sent, lost int
}

const (
	callersInAll = 8 // so that every worker of the gateway has some
	pause        = 4 * time.Millisecond
	streak       = 15 // answers of one Revision on every connection that count as all
)

func (b *bench) call(ctx context.Context, address, host, old string) *callers {
	ctx, cancel := context.WithCancel(ctx)
	c := &callers{old: old, cancel: cancel, each: make([]caller, callersInAll)}
	for i := range c.each {
		mine := &c.each[i]
		c.group.Go(func() {
			var w *wire
			defer func() {
				if w != nil {
					w.close()
				}
			}()
			time.Sleep(pause / callersInAll * time.Duration(i)) // spread over the pause
			for ctx.Err() == nil {
				var a answer
				if w == nil {
					if w, a.err = dial(ctx, address, host, "/"); a.err != nil {
						w = nil
					}
				}
				if w != nil {
					a = w.get()
				}
				if ctx.Err() != nil {
					return
				}
				mine.sent++
				if !a.ok() {
					if mine.lost++; mine.lost == 1 {
						fmt.Printf("  lost: a request during a change of traffic: %v\n", a.problem())
					}
				}
				if a.err != nil || a.last {
					if w != nil {
						w.close()
					}
					w = nil
				}
				if a.ok() {
					mine.note(a.revision == old)
				}
				time.Sleep(pause)
			}
		})
	}
	return c
}

func (c *caller) note(old bool) {
	if old {
		c.lastOld.Store(time.Now().UnixNano())
		c.streak.Store(min(c.streak.Load(), 0) - 1)
		return
	}
	c.streak.Store(max(c.streak.Load(), 0) + 1)
}

// await until on every connection only this Revision answers.
func (c *callers) await(ctx context.Context, revision string) error {
	return until(ctx, "only "+revision+" answers", pause, func() (bool, error) {
		for i := range c.each {
			n := c.each[i].streak.Load()
			if revision == c.old {
				n = -n
			}
			if n < streak {
				return false, nil
			}
		}
		return true, nil
	})
}

// lastOld is when the last answer of the old Revision arrived.
func (c *callers) lastOld() time.Time {
	var last int64
	for i := range c.each {
		last = max(last, c.each[i].lastOld.Load())
	}
	return time.Unix(0, last)
}

// stop asking; it returns how many were sent and lost.
func (c *callers) stop() (sent, lost int) {
	c.cancel()
	c.group.Wait()
	for i := range c.each {
		sent, lost = sent+c.each[i].sent, lost+c.each[i].lost
	}
	return sent, lost
}

// writes are plain ones, the floor of a change.
type writes struct {
	b     *bench
	watch watch.Interface
	n     int
}

const writesName = "bench-floor"

func (b *bench) plainWrites(ctx context.Context) (*writes, error) {
	object := &corev1.ConfigMap{}
	object.Namespace, object.Name = namespace, writesName
	if err := client.IgnoreAlreadyExists(b.Create(ctx, object)); err != nil {
		return nil, err
	}
	w, err := b.Watch(ctx, &corev1.ConfigMapList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": writesName})
	if err != nil {
		return nil, err
	}
	return &writes{b: b, watch: w}, nil
}

func (w *writes) stop() { w.watch.Stop() }

// three writes, each when the watch has shown the one before.
func (w *writes) three(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for range 3 {
		w.n++
		want := fmt.Sprint(began.UnixNano(), w.n)
		object := &corev1.ConfigMap{}
		object.Namespace, object.Name = namespace, writesName
		if err := w.b.Patch(ctx, object, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"data":{"n":%q}}`, want))); err != nil {
			return 0, err
		}
		if err := w.seen(ctx, want); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (w *writes) seen(ctx context.Context, want string) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.watch.ResultChan():
			object, is := e.Object.(*corev1.ConfigMap)
			if !open || !is {
				return errors.New("the watch of the ConfigMap ended")
			}
			if object.Data["n"] == want {
				return nil
			}
		}
	}
}
