package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/datadir"
)

// bench is one run against one platform.
type bench struct {
	client.Client
	config  *rest.Config
	running datadir.Running
	image   string
	results []result
}

type result struct {
	Name string  `json:"name"`
	Unit string  `json:"unit"`
	N    int     `json:"n,omitempty"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90,omitempty"`
	P99  float64 `json:"p99,omitempty"`
	Max  float64 `json:"max,omitempty"`
}

func main() {
	only := flag.String("only", "", "run only the parts named, comma separated: making,zero,split,warm,footprint,accuracy,step")
	many := flag.Int("services", 1000, "how many idle services exist in the second split measurement")
	n := flag.Int("n", 50, "samples a figure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *many, *n); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, many, n int) error {
	folder, err := os.MkdirTemp("", "ebb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	b, stop, err := start(ctx, folder)
	if err != nil {
		return err
	}
	defer stop()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"making", b.making},
		{"zero", func(ctx context.Context) error { return b.fromZero(ctx, n) }},
		{"split", func(ctx context.Context) error { return b.splits(ctx, n, 10) }},
		{"warm", b.warm},
		{"footprint", b.footprint},
		{"split", func(ctx context.Context) error { return b.splits(ctx, n, many) }},
		{"footprint", b.memory},
		{"accuracy", func(ctx context.Context) error { return b.accuracy(ctx, 2) }},
		{"step", func(ctx context.Context) error { return b.steps(ctx, min(n, 20)) }},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.save(filepath.Join("out", "bench.json"))
}

// start brings up a platform with state in folder and deploys the test program once, to have its image.
func start(ctx context.Context, folder string) (*bench, func(), error) {
	up := exec.CommandContext(ctx, "bin/ebb", "up", "--data", folder, "--port", "0")
	up.Stdout, up.Stderr = os.Stderr, os.Stderr
	up.Cancel = func() error { return up.Process.Signal(os.Interrupt) }
	up.WaitDelay = time.Minute
	up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := up.Start(); err != nil {
		return nil, nil, fmt.Errorf("%w (run make build)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	stop := func() {
		_ = up.Process.Signal(os.Interrupt)
		if err := <-ended; err != nil {
			fmt.Fprintln(os.Stderr, "ebb up:", err)
		}
	}
	dir, err := datadir.At(folder)
	if err != nil {
		return nil, stop, err
	}
	b := &bench{}
	for {
		var there bool
		if b.running, there = dir.ReadRunning(); there {
			break
		}
		select {
		case err := <-ended:
			ended <- err
			return nil, stop, fmt.Errorf("ebb up ended: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if b.config, err = clientcmd.BuildConfigFromFlags("", b.running.Kubeconfig); err != nil {
		return nil, stop, err
	}
	b.config.QPS, b.config.Burst = 500, 1000
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme)
	_ = v1.AddToScheme(scheme)
	if b.Client, err = client.New(b.config, client.Options{Scheme: scheme}); err != nil {
		return nil, stop, err
	}
	deploy := exec.CommandContext(ctx, "bin/ebb", "deploy", "bench", "./test/app", "--kubeconfig", b.running.Kubeconfig)
	deploy.Env = append(os.Environ(), "KUBECONFIG="+b.running.Kubeconfig, "KO_DOCKER_REPO="+b.running.Registry)
	deploy.Stdout, deploy.Stderr = os.Stderr, os.Stderr
	if err := deploy.Run(); err != nil {
		return nil, stop, fmt.Errorf("deploy ./test/app: %w", err)
	}
	var service v1.Service
	if err := b.Get(ctx, client.ObjectKey{Namespace: "default", Name: "bench"}, &service); err != nil {
		return nil, stop, err
	}
	b.image = service.Spec.Template.Spec.Containers[0].Image
	return b, stop, nil
}

// service makes a Service of the test program and waits until it is Ready.
func (b *bench) service(ctx context.Context, name string, annotations, env map[string]string) error {
	return b.serviceIn(ctx, "default", name, annotations, env)
}

func (b *bench) serviceIn(ctx context.Context, namespace, name string, annotations, env map[string]string) error {
	container := corev1.Container{Image: b.image}
	for k, v := range env {
		container.Env = append(container.Env, corev1.EnvVar{Name: k, Value: v})
	}
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.Template.Annotations = annotations
	s.Spec.Template.Spec.Containers = []corev1.Container{container}
	if err := b.Create(ctx, s); err != nil {
		return err
	}
	return b.readyIn(ctx, namespace, name)
}

func (b *bench) ready(ctx context.Context, name string) error { return b.readyIn(ctx, "default", name) }

func (b *bench) readyIn(ctx context.Context, namespace, name string) error {
	return until(ctx, "service "+name+" is Ready", func() (bool, error) {
		var s v1.Service
		err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s)
		return err == nil && s.Status.ObservedGeneration == s.Generation && s.Status.Conditions.Get(v1.ConditionReady).IsTrue(), err
	})
}

// until asks every 5 ms, for two minutes at most.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	deadline := time.After(2 * time.Minute)
	for {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return errors.Join(fmt.Errorf("waited two minutes for: %s", what), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// add puts a figure into the table. samples are in the unit.
func (b *bench) add(name, unit string, samples ...float64) {
	slices.Sort(samples)
	at := func(q float64) float64 { return samples[min(len(samples)-1, int(q*float64(len(samples))))] }
	r := result{Name: name, Unit: unit, P50: at(0.5)}
	if len(samples) > 1 {
		r.N, r.P90, r.P99, r.Max = len(samples), at(0.9), at(0.99), samples[len(samples)-1]
		fmt.Printf("%-58s n=%-5d p50 %9.2f  p90 %9.2f  p99 %9.2f  max %9.2f %s\n", name, r.N, r.P50, r.P90, r.P99, r.Max, unit)
	} else {
		fmt.Printf("%-58s %16.2f %s\n", name, r.P50, unit)
	}
	b.results = append(b.results, r)
}

func (b *bench) save(file string) error {
	text, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
