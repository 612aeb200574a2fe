package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"ebb.dev/ebb/test/bench/figures"
)

// options of a run.
type options struct {
	only     []string
	quick    bool
	n        int   // samples of a figure that is a distribution
	sizes    []int // how many Services exist in the parts that are measured again with many
	out      string
	settling time.Duration // how long the platform is left alone before its memory is read
}

func main() {
	only := flag.String("only", "", "run only the parts named, comma separated")
	quick := flag.Bool("quick", false, "few samples and few Services: a try in a minute or two, no figures to keep")
	services := flag.Int("services", 1000, "how many idle Services exist in the parts that are measured again with many; with 10000, at 1000 too")
	n := flag.Int("n", 100, "samples of a figure")
	out := flag.String("o", "out/bench.json", "`FILE` to write the figures to")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "bench measures the embedded default; run it from the root of the repository after `make build`.\n\nParts:\n")
		said := map[string]bool{}
		for _, p := range table(options{sizes: []int{1000}}) {
			if !said[p.name] {
				fmt.Fprintf(flag.CommandLine.Output(), "  %-8s %s\n", p.name, p.about)
			}
			said[p.name] = true
		}
		fmt.Fprintln(flag.CommandLine.Output(), "\nFlags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	o := options{quick: *quick, n: *n, out: *out, settling: 30 * time.Second, sizes: sizes(*services)}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.quick {
		o.n, o.settling, o.sizes = min(o.n, 10), 3*time.Second, []int{min(*services, 20)}
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// sizes at which figures that are to be flat are taken, beside the few Services of the start.
func sizes(services int) []int {
	if services > 1000 {
		return []int{1000, services}
	}
	return []int{services}
}

// about is what bench.json says of the run as a whole.
type about struct {
	Began    string            `json:"began"`
	Seconds  float64           `json:"seconds"`
	Machine  string            `json:"machine"`
	Quick    bool              `json:"quick"`
	Services []int             `json:"services"`
	Parts    map[string]string `json:"parts"` // done, interrupted or what went wrong
}

func run(o options) error {
	parts, err := chosen(table(o), o.only)
	if err != nil {
		return err
	}
	log.SetLogger(logr.Discard()) // of the informers in the part plane
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // the second Ctrl-C ends the program at once
	}()
	b := &bench{options: o, sheet: &figures.Sheet{Last: "lost", OnAdd: func(f figures.Figure) {
		fmt.Printf("  %s = %s %s\n", f.Key, figures.Number(f.Value), f.Unit)
	}}}
	began := time.Now()
	whole := about{
		Began: began.UTC().Format(time.RFC3339), Quick: o.quick, Services: o.sizes, Parts: map[string]string{},
		Machine: fmt.Sprintf("%s/%s, %d CPUs, %s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel(), runtime.Version()),
	}
	save := func() error {
		b.sumLost()
		whole.Seconds = time.Since(began).Round(time.Second).Seconds()
		return b.sheet.Write(o.out, targets, whole)
	}
	var failed []error
	for i, p := range parts {
		fmt.Printf("\n== %s (%d of %d, %s): %s\n", p.name, i+1, len(parts), time.Since(began).Round(time.Second), p.about)
		err := b.measure(ctx, p)
		switch {
		case ctx.Err() != nil:
			whole.Parts[p.name] = "interrupted"
		case err != nil:
			whole.Parts[p.name] = err.Error()
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
			fmt.Fprintf(os.Stderr, "bench: %v\n", failed[len(failed)-1])
			b.stopPlatform() // the next part gets a new one
		case whole.Parts[p.name] == "":
			whole.Parts[p.name] = "done"
		}
		if err := save(); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			fmt.Println("\ninterrupted; what was measured is kept")
			break
		}
	}
	b.stopPlatform()
	b.sheet.Table(os.Stdout, targets, charts(o.sizes))
	fmt.Printf("\nwritten to %s\n", o.out)
	if ctx.Err() != nil {
		failed = append(failed, errors.New("interrupted"))
	}
	return errors.Join(failed...)
}

// measure one part on the platform it needs.
func (b *bench) measure(ctx context.Context, p part) error {
	if p.fresh {
		b.stopPlatform()
	}
	if !p.alone {
		if err := b.startPlatform(ctx); err != nil {
			return err
		}
	}
	return p.do(ctx, b)
}

// chosen are the parts that -only names, all of them when it names none.
func chosen(all []part, only []string) ([]part, error) {
	var names []string
	for _, p := range all {
		if !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-only %s: there is no such part; the parts are %s", name, strings.Join(names, ", "))
		}
	}
	if len(only) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(p part) bool { return !slices.Contains(only, p.name) }), nil
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(text))
}
