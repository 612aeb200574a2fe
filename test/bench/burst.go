package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// storm is many requests at once.
type storm struct {
	key      string // of the figures
	form     form
	requests int
	path     string
	about    string
}

// burst sends many requests at once to a Service at zero, and the same to a plain pod
// that is started for them.
func (b *bench) burst(ctx context.Context) error {
	repeats, thousand := 5, 1000
	if b.quick {
		repeats, thousand = 1, 200
	}
	limited := toZero
	limited.concurrency = 10
	storms := []storm{
		{"burst", toZero, thousand, "/", fmt.Sprintf("0 to %d requests at once, each on a new connection, to a Service at zero, default settings", thousand)},
		{"burst.limited", limited, 100, "/sleep?ms=100", "0 to 100 requests at once, each on a new connection, to a Service at zero with containerConcurrency 10 whose program takes 100 ms for each"},
	}
	for _, s := range storms { // all go to zero together
		for i := range repeats {
			name := s.service(i)
			if err := b.service(ctx, name, s.form); err != nil {
				return err
			}
			if _, err := b.first(ctx, name); err != nil {
				return err
			}
		}
	}
	if err := b.noPods(ctx, "burst-"); err != nil {
		return err
	}
	floor, err := b.plain(ctx)
	if err != nil {
		return err
	}
	defer floor.close()
	for _, s := range storms {
		if err := b.storms(ctx, s, repeats, floor); err != nil {
			return err
		}
	}
	return nil
}

func (s storm) service(i int) string {
	if s.key == "burst" {
		return fmt.Sprintf("burst-free-%d", i)
	}
	return fmt.Sprintf("burst-limited-%d", i)
}

func (b *bench) storms(ctx context.Context, s storm, repeats int, floor *plain) error {
	var took, bare, pods []float64
	sent, errors := 0, 0
	defer func() {
		b.add(s.key+".errors", "requests", float64(errors), sent, s.about+": answers other than 200, or none")
		b.sheet.Quantiles(s.key+".*_ms", "ms", s.about+"; of each, from the moment that all begin to the end of its answer", took, 50, 90, 99)
		b.sheet.Quantiles(s.key+".pods", "pods", s.about+"; the pods of the Service when all were answered", pods, 50)
		b.sheet.Quantiles(s.key+".floor_ms.*", "ms", "the same requests at once to the pod of a plain Deployment that is started for them, straight to its port, no limit; from the patch of its scale", bare, 50, 99)
	}()
	for i := range repeats {
		b.progress("%s %d of %d", s.key, i+1, repeats)
		name := s.service(i)
		answered, lost := atOnce(ctx, b.running.Gateway, host(name), s.path, s.requests, time.Now())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.count(s.requests, lost)
		sent, errors = sent+s.requests, errors+lost
		took = append(took, answered...)
		there, err := b.pods(ctx, name)
		if err != nil {
			return err
		}
		pods = append(pods, float64(len(there)))

		began := time.Now()
		at, _, err := floor.up(ctx)
		if err != nil {
			return err
		}
		plainly, lost := atOnce(ctx, at, "floor", s.path, s.requests, began)
		if lost > 0 {
			fmt.Printf("  the plain pod itself lost %d of %d\n", lost, s.requests)
		}
		bare = append(bare, plainly...)
		if err := floor.down(ctx); err != nil {
			return err
		}
	}
	return nil
}

// atOnce sends so many requests at once, each on a connection of its own, and returns when
// each was answered with 200, in ms after began, and how many were not.
func atOnce(ctx context.Context, address, host, path string, requests int, began time.Time) (took []float64, lost int) {
	var mu sync.Mutex
	var group sync.WaitGroup
	said := false
	for range requests {
		group.Go(func() {
			w, err := dial(ctx, address, host, path)
			var a answer
			if err != nil {
				a.err = err
			} else {
				a = w.get()
				w.close()
			}
			at := milliseconds(time.Since(began))
			mu.Lock()
			defer mu.Unlock()
			if a.ok() {
				took = append(took, at)
				return
			}
			lost++
			if !said && ctx.Err() == nil {
				said = true
				fmt.Printf("  lost: %s%s: %v\n", host, path, a.problem())
			}
		})
	}
	group.Wait()
	return took, lost
}
