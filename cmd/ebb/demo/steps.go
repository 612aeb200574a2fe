package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/image"
	"ebb.dev/ebb/cmd/ebb/output"
	"ebb.dev/ebb/cmd/ebb/up"
	"ebb.dev/ebb/cmd/ebb/user"
)

const (
	name         = "hello"
	autoscaling  = "autoscaling.knative.dev/"
	first        = name + "-00001"
	second       = name + "-00002"
	stepDeadline = 2 * time.Minute
)

// step is one line of the table.
type step struct {
	name string
	took time.Duration
	what string // what was seen
	err  error
}

// show is a demonstration under way.
type show struct {
	ctx      context.Context // ends with a signal
	platform *up.Platform
	session  *user.Session
	caller   *http.Client
	url      string
	image    string
	steps    []step
}

// run makes the platform and does the steps. It returns an error if one did not hold.
func run(ctx context.Context, o up.Options, example string, now <-chan struct{}) error {
	began := time.Now()
	platform, err := up.Start(ctx, o, now)
	if err != nil {
		return err
	}
	defer platform.Stop(now)
	d := &show{ctx: ctx, platform: platform, caller: platform.Caller()}
	d.steps = append(d.steps, step{name: "platform up", took: time.Since(began), what: "all parts ready"})
	if d.session, err = platform.Session(io.Discard, io.Discard); err != nil {
		return err
	}
	err = d.all(example)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.print(o.Out, time.Since(began))
	return err
}

func (d *show) all(example string) error {
	d.platform.Progress().Print("\n")
	for _, s := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"build and push", func(ctx context.Context) (string, error) { return d.build(ctx, example) }},
		{"deploy, at zero", d.deploy},
		{"first call, from zero", d.fromZero},
		{"call again, warm", d.warm},
		{"second revision", d.change},
		{"split 90/10", d.split},
		{"rollback", d.rollback},
		{"up under load", d.underLoad},
		{"down to zero", d.toZero},
		{"from zero once more", d.fromZero},
	} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(d.ctx, stepDeadline)
		what, err := s.do(ctx)
		cancel()
		took := time.Since(began)
		d.steps = append(d.steps, step{s.name, took, what, err})
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		d.platform.Progress().Line("%-24s %s", s.name, what)
	}
	return nil
}

func (d *show) build(ctx context.Context, example string) (what string, err error) {
	if d.image, err = image.Build(ctx, example, d.platform.Running().Registry, name); err != nil {
		return "", err
	}
	_, digest, _ := strings.Cut(d.image, "@")
	return digest[:min(19, len(digest))] + "…", nil
}

func (d *show) deploy(ctx context.Context) (string, error) {
	concurrency := int64(0)
	svc, err := d.apply(ctx, user.Deployment{Name: name, Image: d.image, Env: []string{"TARGET=one"}, Concurrency: &concurrency, Annotations: map[string]string{
		autoscaling + "initial-scale": "0", autoscaling + "window": "6s", autoscaling + "target": "10", autoscaling + "max-scale": "5",
	}})
	if err != nil {
		return "", err
	}
	d.url = svc.Status.URL
	return d.url, nil
}

func (d *show) apply(ctx context.Context, wish user.Deployment) (*v1.Service, error) {
	svc, _, err := d.session.Deploy(ctx, wish)
	if err != nil {
		return nil, err
	}
	return d.session.AwaitReady(ctx, svc, func(string) {})
}

func (d *show) fromZero(ctx context.Context) (string, error) {
	took, body, err := get(ctx, d.caller, d.url)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(body, "Hello one") {
		return "", fmt.Errorf("the answer was %q, not one of %s", body, first)
	}
	return fmt.Sprintf("answered after %s: %s", took.Round(time.Millisecond), body), nil
}

func (d *show) warm(ctx context.Context) (string, error) {
	if err := d.replicas(ctx, first, func(n int32) bool { return n > 0 }); err != nil {
		return "", err
	}
	const calls = 200
	var times []time.Duration
	for range calls {
		took, _, err := get(ctx, d.caller, d.url)
		if err != nil {
			return "", err
		}
		times = append(times, took)
	}
	return fmt.Sprintf("%d calls, none failed, median %s", calls, median(times).Round(10*time.Microsecond)), nil
}

func (d *show) change(ctx context.Context) (string, error) {
	began := time.Now()
	if _, err := d.apply(ctx, user.Deployment{Name: name, Env: []string{"TARGET=two"}}); err != nil {
		return "", err
	}
	ready := time.Since(began)
	_, body, err := get(ctx, d.caller, d.url)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(body, "Hello two") {
		return "", fmt.Errorf("the service is Ready and still answers %q", body)
	}
	return fmt.Sprintf("serves after %s: %s", ready.Round(time.Millisecond), body), nil
}

func (d *show) split(ctx context.Context) (string, error) {
	took, err := d.traffic(ctx, user.TrafficChange{Split: []user.Percent{{Revision: first, Percent: 90}, {Revision: second, Percent: 10}}})
	if err != nil {
		return "", err
	}
	const calls = 2000
	got := 0
	for range calls {
		_, body, err := get(ctx, d.caller, d.url)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(body, "Hello two") {
			got++
		}
	}
	low, high := binomialBounds(calls, 0.10)
	seen := fmt.Sprintf("in effect after %s; %d of %d calls got 10 %% (%d to %d expected)", took.Round(time.Millisecond), got, calls, low, high)
	if got < low || got > high {
		return "", errors.New(seen)
	}
	return seen, nil
}

func (d *show) traffic(ctx context.Context, change user.TrafficChange) (time.Duration, error) {
	began := time.Now()
	svc, _, err := d.session.ChangeTraffic(ctx, name, change)
	if err != nil {
		return 0, err
	}
	_, err = d.session.AwaitReady(ctx, svc, func(string) {})
	return time.Since(began), err
}

func (d *show) rollback(ctx context.Context) (string, error) {
	took, err := d.traffic(ctx, user.TrafficChange{Rollback: true})
	if err != nil {
		return "", err
	}
	const calls = 200
	for range calls {
		_, body, err := get(ctx, d.caller, d.url)
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(body, "Hello one") {
			return "", fmt.Errorf("all traffic is on %s, and %q answered", first, body)
		}
	}
	return fmt.Sprintf("in effect after %s; %d of %d calls on %s", took.Round(time.Millisecond), calls, calls, first), nil
}

func (d *show) underLoad(ctx context.Context) (string, error) {
	const clients, wish = 30, 3 // 30 in progress at a target of 10 (70 % of it) need more than 3 pods
	load := startLoad(ctx, d.caller, d.url+"/sleep?ms=200", clients)
	began := time.Now()
	err := d.replicas(ctx, first, func(n int32) bool { return n >= wish })
	grew := time.Since(began)
	if err == nil {
		err = load.more(ctx, 10*clients) // and it goes on with all of them
	}
	sent, failed := load.stop()
	if err != nil {
		return "", fmt.Errorf("%d pods were expected: %w", wish, err)
	}
	if len(failed) > 0 {
		return "", fmt.Errorf("%d of %d calls failed, the first one: %w", len(failed), sent, failed[0])
	}
	return fmt.Sprintf("%d pods ready after %s; %d calls, none failed", wish, grew.Round(100*time.Millisecond), sent), nil
}

// toZero calls now and then while the pods go, so that what is cut shows.
func (d *show) toZero(ctx context.Context) (string, error) {
	load := startLoad(ctx, d.caller, d.url+"/sleep?ms=1000", 2)
	few := func(n int32) bool { return n <= 1 }
	err := d.replicas(ctx, first, few)
	sent, failed := load.stop()
	if err != nil {
		return "", err
	}
	if len(failed) > 0 {
		return "", fmt.Errorf("%d of %d calls failed on the way down, the first one: %w", len(failed), sent, failed[0])
	}
	for _, revision := range []string{first, second} {
		if err := d.replicas(ctx, revision, func(n int32) bool { return n == 0 }); err != nil {
			return "", fmt.Errorf("%s is not at zero: %w", revision, err)
		}
	}
	return fmt.Sprintf("no pod is left; %d calls on the way down, none failed", sent), nil
}

func (d *show) replicas(ctx context.Context, revision string, enough func(int32) bool) error {
	last := int32(-1)
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		n, err := d.session.Replicas(ctx, revision)
		if err == nil {
			last = n
		}
		return err == nil && enough(n), err
	})
	if err != nil {
		return fmt.Errorf("%s has %d pods: %w", revision, last, err)
	}
	return nil
}

func (d *show) print(out io.Writer, total time.Duration) {
	fmt.Fprintln(out)
	_ = output.WriteTable(out, output.Table, []output.Column[step]{
		{Title: "STEP", Value: func(s step) string { return s.name }},
		{Title: "HELD", Value: func(s step) string {
			if s.err != nil {
				return "NO"
			}
			return "yes"
		}},
		{Title: "TIME", Value: func(s step) string { return fmt.Sprintf("%.2fs", s.took.Seconds()) }},
		{Title: "SEEN", Value: func(s step) string {
			if s.err != nil {
				return s.err.Error()
			}
			return s.what
		}},
	}, d.steps)
	fmt.Fprintf(out, "\n%.1fs in all\n", total.Seconds())
}
