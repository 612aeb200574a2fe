package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/test/bench/figures"
)

// accuracy compares the average over the stable window, a minute, with the application's own count of the same minute, and with the
// client's, which has the whole way in it: what the gateway has in flight is more than the one and less than the other, and on a busy machine they are
// far apart. The loads run beside each other, each at a service of its own with one pod.
func (b *bench) accuracy(ctx context.Context, minutes int) error {
	const ms = time.Millisecond
	poisson := func(perSecond float64) func() (time.Duration, int) {
		return func() (time.Duration, int) { return time.Duration(rand.ExpFloat64() / perSecond * 1e9), 1 }
	}
	together := func(n int, each time.Duration) func() (time.Duration, int) {
		return func() (time.Duration, int) { return each, n }
	}
	cases := []struct {
		name, what string
		burst      string // target-burst-capacity: -1 is by way of the activator
		stay       time.Duration
		next       func() (after time.Duration, n int)
	}{
		{"direct-1s", "direct, 1 s, 30/s at random", "0", 1000 * ms, poisson(30)},
		{"direct-5ms", "direct, 5 ms, 200/s at random", "0", 5 * ms, poisson(200)},
		{"burst", "direct, 5 ms, 10 at once each 100 ms", "0", 5 * ms, together(10, 100*ms)},
		{"even", "direct, 5 ms, each 20 ms", "0", 5 * ms, together(1, 20*ms)},
		{"activator-1s", "activator, 1 s, 30/s at random", "-1", 1000 * ms, poisson(30)},
		{"activator-5ms", "activator, 5 ms, 100/s at random", "-1", 5 * ms, poisson(100)},
	}
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	clients := map[string]*integral{}
	for _, c := range cases {
		if err := b.service(ctx, c.name, form{annotations: map[string]string{serving.MinScaleAnnotation: "1", serving.MaxScaleAnnotation: "1",
			serving.WindowAnnotation: "60s", serving.TargetBurstCapacityAnnotation: c.burst}}); err != nil {
			return err
		}
		if _, err := b.first(ctx, c.name); err != nil {
			return err
		}
		transport := &http.Transport{MaxIdleConnsPerHost: 1000}
		defer transport.CloseIdleConnections()
		mine := &integral{}
		clients[c.name] = mine
		group.Go(func() {
			path := fmt.Sprintf("/sleep?ms=%d", c.stay.Milliseconds())
			for at := time.Now(); ctx.Err() == nil; {
				after, n := c.next()
				at = at.Add(after)
				time.Sleep(time.Until(at))
				for range n {
					group.Go(func() {
						mine.change(1)
						defer mine.change(-1)
						b.send(ctx, transport, c.name, path)
					})
				}
			}
		})
	}
	overApp, overClient := map[string][]float64{}, map[string][]float64{}
	defer func() {
		const method = "the autoscaler's average over the stable window of a minute, median of the minutes; one pod of its own under this load: "
		for _, c := range cases {
			b.add("accuracy."+c.name+".over_app", "x", figures.Median(overApp[c.name]), len(overApp[c.name]), "over the application's own count of requests in progress; "+method+c.what)
			b.add("accuracy."+c.name+".over_client", "x", figures.Median(overClient[c.name]), len(overClient[c.name]), "over what the client has in flight, which has the whole way in it; "+method+c.what)
		}
	}()
	before := map[string]counted{}
	for minute := range minutes + 1 {
		wait := time.Minute
		if minute == 0 {
			wait = 5 * time.Second // until it is as ever
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		for _, c := range cases {
			now, err := b.counters(ctx, c.name)
			if err != nil {
				return err
			}
			now.client = clients[c.name].change(0)
			if minute > 0 {
				average, err := b.metric(ctx, "ebb_autoscaler_stable_average", c.name+"-00001")
				if err != nil {
					return err
				}
				seconds := now.at.Sub(before[c.name].at).Seconds()
				app, sent := (now.Area-before[c.name].Area)/seconds, (now.client-before[c.name].client)/seconds
				overApp[c.name], overClient[c.name] = append(overApp[c.name], average/app), append(overClient[c.name], average/sent)
				fmt.Printf("  %-40s the application's %.3f, the autoscaler's %.3f, the client's %.3f\n", c.what, app, average, sent)
			}
			before[c.name] = now
		}
	}
	return nil
}

// send makes one request and reads the answer; one that is lost counts.
func (b *bench) send(ctx context.Context, transport http.RoundTripper, name, path string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.running.Gateway+path, nil)
	if err != nil {
		return
	}
	request.Host = host(name)
	response, err := transport.RoundTrip(request)
	if err == nil {
		if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("answered %s", response.Status)
		}
		response.Body.Close()
	}
	switch {
	case err == nil:
		b.count(1, 0)
	case ctx.Err() == nil: // not one that was given up at the end
		b.count(1, 1)
	}
}

// counted is what an application has counted: Area is the sum of its requests' durations so far, in seconds.
type counted struct {
	Area, client float64
	at           time.Time
}

// integral is the sum of the durations of what is in progress and was.
type integral struct {
	mu      sync.Mutex
	now     int
	changed time.Time
	sum     float64 // seconds
}

func (i *integral) change(by int) float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := time.Now()
	i.sum += float64(i.now) * t.Sub(i.changed).Seconds()
	i.now, i.changed = i.now+by, t
	return i.sum
}

// counters asks the one pod of a service.
func (b *bench) counters(ctx context.Context, service string) (c counted, err error) {
	pods, err := b.pods(ctx, service)
	if err != nil {
		return c, err
	}
	if len(pods) != 1 {
		return c, fmt.Errorf("service %s has %d pods, not 1", service, len(pods))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address(&pods[0])+"/counters", nil)
	if err != nil {
		return c, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return c, err
	}
	defer response.Body.Close()
	c.at = time.Now()
	return c, json.NewDecoder(response.Body).Decode(&c)
}

// metric is one of the controller's, of a revision.
func (b *bench) metric(ctx context.Context, name, revision string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.running.Controller+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if s := string(line); strings.HasPrefix(s, name+"{") && strings.Contains(s, `revision="`+revision+`"`) {
			return strconv.ParseFloat(s[strings.LastIndex(strings.TrimSpace(s), " ")+1:len(strings.TrimSpace(s))], 64)
		}
	}
	return 0, errors.New("the controller has no metric " + name + " of " + revision)
}
