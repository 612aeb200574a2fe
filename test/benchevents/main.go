package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

type options struct {
	ebb, out           string
	events, rounds     int
	rate               int
	steady             time.Duration
	faultEvents, kills int
}

func main() {
	var o options
	flag.StringVar(&o.ebb, "ebb", "bin/ebb", "the program")
	flag.StringVar(&o.out, "out", "out/bench-events.json", "where the figures go")
	flag.IntVar(&o.events, "events", 20000, "events of a round")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, of bare JetStream and of Ebb in turn")
	flag.IntVar(&o.rate, "rate", 500, "events/s while latency is measured")
	flag.DurationVar(&o.steady, "steady", 10*time.Second, "how long latency is measured")
	flag.IntVar(&o.faultEvents, "fault-events", 50000, "events while the server is killed")
	flag.IntVar(&o.kills, "kills", 5, "how often it is killed")
	profile := flag.String("cpuprofile", "", "where a profile of this process goes")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench-events:", err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-events:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	folder, err := os.MkdirTemp("", "bench-events-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	store := &server{program: o.ebb, folder: folder}
	if err := store.start(ctx); err != nil {
		return err
	}
	defer store.kill()

	figures := map[string]any{"method.machine": fmt.Sprintf("%d processors, %s", runtime.NumCPU(), runtime.Version())}
	kinds := []struct {
		key, name string
		run       func() (float64, error)
	}{
		{"bare", "bare JetStream", func() (float64, error) { return runBare(ctx, store.url, o.events) }},
		{"http", "one hop of HTTP", func() (float64, error) { return runHTTP(ctx, o.events) }},
		{"ebb", "Ebb", func() (float64, error) {
			return onPlatform(ctx, store, func(p *platform) (float64, error) { return p.throughput(ctx, o.events) })
		}},
		{"batch", "Ebb, in batches", func() (float64, error) {
			return onPlatform(ctx, store, func(p *platform) (float64, error) { return p.batches(ctx, o.events, batch) })
		}},
	}
	rates, work := map[string][]float64{}, map[string][]float64{}
	var ratios, ofFloor []float64
	for range o.rounds {
		for _, k := range kinds {
			before := store.processor()
			rate, err := k.run()
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			each := perEvent(store.processor()-before, o.events)
			rates[k.key], work[k.key] = append(rates[k.key], rate), append(work[k.key], each)
			fmt.Printf("%-16s %8.0f events/s %4.0f us of processor each   ", k.name, rate, each)
		}
		last := func(of map[string][]float64, key string) float64 { return of[key][len(of[key])-1] }
		ratios = append(ratios, last(rates, "ebb")/last(rates, "bare"))
		ofFloor = append(ofFloor, last(rates, "ebb")*(1/last(rates, "bare")+2/last(rates, "http")))
		fmt.Printf("ratio %.2f, of the floor %.2f\n", ratios[len(ratios)-1], ofFloor[len(ofFloor)-1])
	}
	for _, k := range kinds {
		figures["throughput."+k.key], figures["processor_us."+k.key] = round(median(rates[k.key])), round(median(work[k.key]))
	}
	figures["throughput.ratio"] = round(median(ratios))
	figures["throughput.floor_ratio"] = round(median(ofFloor))
	figures["throughput.batch_ratio"] = round(median(rates["batch"]) / median(rates["bare"]))
	figures["processor_us.ratio"] = round(median(work["bare"]) / median(work["ebb"]))

	p, err := newPlatform(ctx, store.url)
	if err != nil {
		return err
	}
	waits, err := p.latency(ctx, o.rate, o.steady)
	p.close()
	if err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	figures["latency_ms.p50"], figures["latency_ms.p99"] = ms(waits, 0.50), ms(waits, 0.99)
	fmt.Printf("latency at %d events/s: p50 %v ms, p99 %v ms\n", o.rate, figures["latency_ms.p50"], figures["latency_ms.p99"])

	if p, err = newPlatform(ctx, store.url); err != nil {
		return err
	}
	lost, twice, err := p.faults(ctx, store, o.faultEvents, o.kills)
	p.close()
	if err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	figures["lost.total"], figures["duplicates.total"] = lost, twice
	figures["faults.events"], figures["faults.kills"] = o.faultEvents, o.kills
	fmt.Printf("NATS server killed %d times: %d events, lost %d, delivered again %d\n", o.kills, o.faultEvents, lost, twice)

	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.out, append(text, '\n'), 0o644)
}

// batch is how many events a request has where they are sent in batches.
const batch = 20

// onPlatform runs on a platform of its own.
func onPlatform(ctx context.Context, store *server, run func(*platform) (float64, error)) (float64, error) {
	p, err := newPlatform(ctx, store.url)
	if err != nil {
		return 0, err
	}
	defer p.close()
	return run(p)
}

// perEvent is microseconds.
func perEvent(work time.Duration, events int) float64 {
	return float64(work.Nanoseconds()) / 1000 / float64(events)
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func round(f float64) float64 { return float64(int(f*1000+0.5)) / 1000 }

func ms(waits []time.Duration, at float64) float64 {
	slices.Sort(waits)
	return round(waits[int(at*float64(len(waits)-1))].Seconds() * 1000)
}
