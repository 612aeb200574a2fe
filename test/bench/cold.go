package main

import (
	"context"
	"fmt"
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/test/bench/figures"
)

const (
	coldMethod = "a GET on a new connection to the gateway for a Service that has no pod (checked by a list just before); from dialling to the end of the answer. " +
		"20 Services take turns (window and grace period 6 s) and wait together until all are at zero"
	floorMethod = "the same image as a plain Deployment, no Service, no probe: from the patch of its scale from 0 to 1 to the end of the first answer on the pod's own port, asked again every 0.5 ms as soon as the pod has one; " +
		"in turns with the cold starts, by pairs, the order changing"
)

// cold measures first requests of Services at zero, each in turns with the floor, when so
// many Services exist; 0 for however many there are.
func (b *bench) cold(ctx context.Context, services int) error {
	suffix := ""
	if services > 0 {
		suffix = fmt.Sprintf(".%d", services)
		if err := b.fill(ctx, services); err != nil {
			return err
		}
	}
	floor, err := b.plain(ctx)
	if err != nil {
		return err
	}
	defer floor.close()
	if err := b.firstActivations(ctx, floor, suffix); err != nil {
		return err
	}
	var cold, bare []float64
	defer func() {
		with := ""
		if services > 0 {
			with = fmt.Sprintf("; %d Services exist", services)
		}
		over := figures.Pairwise(cold, bare, figures.Minus)
		b.sheet.Quantiles("cold_start.*"+suffix, "ms", coldMethod+with, cold, 50, 90, 99)
		b.sheet.Quantiles("cold_start.floor_ms.*"+suffix, "ms", floorMethod+with, bare, 50, 90, 99)
		b.sheet.Quantiles("cold_start.over_floor_ms.*"+suffix, "ms", "the cold start less the floor of the same pair; "+coldMethod+with, over, 50, 90, 99)
		b.sheet.Quantiles("cold_start.ratio.*"+suffix, "x", "the cold start over the floor of the same pair"+with, figures.Pairwise(cold, bare, figures.Over), 50)
	}()
	turns := min(20, b.n)
	for i := range turns {
		if err := b.service(ctx, fmt.Sprintf("cold-%d", i), toZero); err != nil {
			return err
		}
	}
	for len(cold) < b.n {
		if err := b.noPods(ctx, "cold-"); err != nil {
			return err
		}
		for i := 0; i < turns && len(cold) < b.n; i++ {
			c, f, err := b.pair(ctx, fmt.Sprintf("cold-%d", i), floor, i%2 == 0)
			if err != nil {
				return err
			}
			cold, bare = append(cold, c), append(bare, f)
			b.progress("cold start %d of %d: %.0f ms, floor %.0f ms", len(cold), b.n, c, f)
		}
	}
	return nil
}

// pair is one cold start and one floor, in ms.
func (b *bench) pair(ctx context.Context, service string, floor *plain, coldFirst bool) (cold, bare float64, err error) {
	first := func() error {
		cold, err = b.first(ctx, service)
		return err
	}
	second := func() error {
		_, took, err := floor.up(ctx)
		if err != nil {
			return err
		}
		bare = milliseconds(took)
		return floor.down(ctx)
	}
	if !coldFirst {
		first, second = second, first
	}
	if err := first(); err != nil {
		return 0, 0, err
	}
	return cold, bare, second()
}

// first asks a Service once, and again when that is lost, which counts; the time is of all.
func (b *bench) first(ctx context.Context, service string) (float64, error) {
	began := time.Now()
	for {
		a := ask(ctx, b.running.Gateway, host(service))
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if a.ok() {
			b.count(1, 0)
			return milliseconds(time.Since(began)), nil
		}
		b.count(1, 1)
		fmt.Printf("  lost: a request to %s at zero: %v\n", service, a.problem())
		if time.Since(began) > patience {
			return 0, a.problem()
		}
	}
}

func host(service string) string { return service + "." + namespace + ".localhost" }

// firstActivations measures Services that never had a pod.
func (b *bench) firstActivations(ctx context.Context, floor *plain, suffix string) error {
	n := 10
	if b.quick {
		n = 3
	}
	var took, bare []float64
	for i := range n {
		name := fmt.Sprintf("never%s-%d", suffixName(suffix), i)
		if err := b.service(ctx, name, form{annotations: map[string]string{serving.InitialScaleAnnotation: "0", serving.WindowAnnotation: "6s"}}); err != nil {
			return err
		}
		c, f, err := b.pair(ctx, name, floor, i%2 == 0)
		if err != nil {
			return err
		}
		took, bare = append(took, c), append(bare, f)
	}
	const method = "as cold_start, the first request ever of a Service made with initial-scale 0, when it is Ready"
	b.add("cold_start.first_activation_ms"+suffix, "ms", figures.Median(took), n, "median; "+method)
	b.add("cold_start.first_activation_over_floor_ms"+suffix, "ms", figures.Median(figures.Pairwise(took, bare, figures.Minus)), n, "median of the pairs, less the floor of the same pair; "+method)
	return nil
}

func suffixName(suffix string) string {
	if suffix == "" {
		return ""
	}
	return "-" + suffix[1:]
}
