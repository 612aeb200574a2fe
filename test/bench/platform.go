package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/test/bench/figures"
	"ebb.dev/ebb/test/e2e/platform"
)

// namespace of all Services that stay for the next part.
const namespace = "default"

// bench is one run.
type bench struct {
	options
	sheet *figures.Sheet

	// Of the platform that is up, if one is.
	client.WithWatch
	config  *rest.Config
	dir     datadir.Dir
	running datadir.Running
	image   string // of test/app
	stop    func()

	said time.Time // when progress was printed last

	mu         sync.Mutex
	sent, lost int
}

// count notes requests that were sent and how many of them got no answer or a wrong one.
func (b *bench) count(sent, lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent, b.lost = b.sent+sent, b.lost+lost
}

func (b *bench) sumLost() {
	b.mu.Lock()
	sent, lost := b.sent, b.lost
	b.mu.Unlock()
	if sent > 0 {
		b.sheet.Add(figures.Figure{Key: "lost.total", Unit: "requests", Value: float64(lost), N: sent,
			Method: "requests in all parts through the gateway that were answered with another status than 200, cut short or not at all; n are all that were sent; no client tries again"})
	}
}

// add puts one number into the sheet.
func (b *bench) add(key, unit string, value float64, n int, method string) {
	b.sheet.Add(figures.Figure{Key: key, Unit: unit, Value: value, N: n, Method: method})
}

// progress tells how far a part is, not more often than once in two seconds.
func (b *bench) progress(format string, args ...any) {
	if time.Since(b.said) > 2*time.Second {
		b.said = time.Now()
		fmt.Printf("  … "+format+"\n", args...)
	}
}

// startPlatform brings up a platform with nothing in it, unless one is up.
func (b *bench) startPlatform(ctx context.Context) (err error) {
	if b.stop != nil {
		return nil
	}
	if os.Getenv(platform.ClusterVariable) != "" {
		return b.useCluster(ctx)
	}
	fmt.Println("  … starting a platform")
	folder, err := os.MkdirTemp("", "ebb-bench-")
	if err != nil {
		return err
	}
	if b.dir, err = datadir.At(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(filepath.Dir(b.out), "bench-platform.log"))
	if err != nil {
		return err
	}
	up := exec.Command("bin/ebb", "up", "--data", folder, "--port", "0")
	up.Stdout, up.Stderr = log, log
	up.SysProcAttr = ownGroup()
	if err := up.Start(); err != nil {
		return fmt.Errorf("%w (run make build)", err)
	}
	ended := make(chan struct{})
	var result error
	go func() { result = up.Wait(); close(ended) }()
	b.stop = func() {
		_ = up.Process.Signal(os.Interrupt)
		<-ended
		log.Close()
		if result != nil {
			fmt.Fprintf(os.Stderr, "bench: ebb up: %v (%s)\n", result, log.Name())
		}
		os.RemoveAll(folder)
	}
	defer func() {
		if err != nil {
			b.stopPlatform()
		}
	}()
	for there := false; !there; b.running, there = b.dir.ReadRunning() {
		select {
		case <-ended:
			return fmt.Errorf("ebb up ended: %w (%s)", result, log.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := b.connect(); err != nil {
		return err
	}
	return b.prepare(ctx)
}

// useCluster measures Ebb where it is installed already, instead of the embedded default.
func (b *bench) useCluster(ctx context.Context) error {
	p, err := platform.Existing(ctx)
	if err != nil {
		return err
	}
	b.stop, b.running = p.Close, p.Running()
	if err = b.connect(); err == nil {
		err = b.prepare(ctx)
	}
	if err != nil {
		b.stopPlatform()
	}
	return err
}

// ownGroup is for children: Ctrl-C reaches only this program, which ends them when it
// has written down what was measured; and they end with it, however that ends.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func (b *bench) stopPlatform() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

func (b *bench) connect() (err error) {
	if b.config, err = clientcmd.BuildConfigFromFlags("", b.running.Kubeconfig); err != nil {
		return err
	}
	b.config.QPS, b.config.Burst = 1000, 2000
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme)); err != nil {
		return err
	}
	b.WithWatch, err = client.NewWithWatch(b.config, client.Options{Scheme: scheme})
	return err
}

// prepare deploys the test program once, to have its image, and lets Services go to zero as soon as they may.
func (b *bench) prepare(ctx context.Context) error {
	deploy := exec.CommandContext(ctx, "bin/ebb", "deploy", "bench", "./test/app", "--kubeconfig", b.running.Kubeconfig)
	deploy.Env = append(os.Environ(), "KUBECONFIG="+b.running.Kubeconfig, "KO_DOCKER_REPO="+b.running.Registry)
	if said, err := deploy.CombinedOutput(); err != nil {
		return fmt.Errorf("deploy ./test/app: %w: %s", err, said)
	}
	var s v1.Service
	if err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "bench"}, &s); err != nil {
		return err
	}
	b.image = s.Spec.Template.Spec.Containers[0].Image
	if err := b.Delete(ctx, &s); err != nil {
		return err
	}
	grace := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: serving.Namespace, Name: "config-autoscaler"}}
	return b.Patch(ctx, &grace, client.RawPatch("application/merge-patch+json", []byte(`{"data":{"scale-to-zero-grace-period":"6s"}}`)))
}

// form of a Service of the test program.
type form struct {
	annotations map[string]string
	env         map[string]string
	concurrency int64
}

var (
	atZero  = form{annotations: map[string]string{serving.InitialScaleAnnotation: "0"}}
	withPod = form{annotations: map[string]string{serving.MinScaleAnnotation: "1", serving.MaxScaleAnnotation: "1"}}
	// toZero goes to zero as soon as it may.
	toZero = form{annotations: map[string]string{serving.WindowAnnotation: "6s"}}
)

func (b *bench) object(namespace, name string, f form) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.Template.Annotations = f.annotations
	container := corev1.Container{Image: b.image}
	for k, v := range f.env {
		container.Env = append(container.Env, corev1.EnvVar{Name: k, Value: v})
	}
	s.Spec.Template.Spec.Containers = []corev1.Container{container}
	if f.concurrency > 0 {
		s.Spec.Template.Spec.ContainerConcurrency = &f.concurrency
	}
	return s
}

// service makes a Service, unless it is there, and waits until it is Ready.
func (b *bench) service(ctx context.Context, name string, f form) error {
	if err := client.IgnoreAlreadyExists(b.Create(ctx, b.object(namespace, name, f))); err != nil {
		return err
	}
	return b.ready(ctx, name)
}

func isReady(s *v1.Service) bool {
	return s.Status.ObservedGeneration == s.Generation && s.Status.Conditions.Get(v1.ConditionReady).IsTrue()
}

// watch one Service; its present state comes first.
func (b *bench) watch(ctx context.Context, name string) (watch.Interface, error) {
	return b.Watch(ctx, &v1.ServiceList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": name})
}

// ready waits until the Service is Ready.
func (b *bench) ready(ctx context.Context, name string) error {
	w, err := b.watch(ctx, name)
	if err != nil {
		return err
	}
	defer w.Stop()
	if err := readyAt(ctx, w, 0); err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	return nil
}

// readyAt waits until the watched Service is Ready with this generation or a later one.
func readyAt(ctx context.Context, w watch.Interface, generation int64) error {
	deadline := time.After(patience)
	var said error
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("waited %s for it to be Ready: %w", patience, said)
		case event, open := <-w.ResultChan():
			s, is := event.Object.(*v1.Service)
			if !open || !is {
				return fmt.Errorf("its watch ended: %v", event.Object)
			}
			if s.Generation >= generation && isReady(s) {
				return nil
			}
			if c := s.Status.Conditions.Get(v1.ConditionReady); c != nil {
				said = fmt.Errorf("%s %s", c.Reason, c.Message)
			}
		}
	}
}

// eachReady calls f for each Service of a namespace when it is seen to be Ready for the first time, until
// ctx ends. It returns once the watch has begun; f is called from one goroutine.
func (b *bench) eachReady(ctx context.Context, namespace string, f func(name string)) error {
	w, err := b.Watch(ctx, &v1.ServiceList{}, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	go func() {
		seen := map[string]bool{}
		for {
			for event := range w.ResultChan() {
				if s, is := event.Object.(*v1.Service); is && !seen[s.Name] && isReady(s) {
					seen[s.Name] = true
					f(s.Name)
				}
			}
			for { // the API server ends a watch now and then
				if ctx.Err() != nil {
					return
				}
				if w, err = b.Watch(ctx, &v1.ServiceList{}, client.InNamespace(namespace)); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return nil
}

// patience is how long anything may take: only a deadline, never a measure.
const patience = 2 * time.Minute

// until asks again and again.
func until(ctx context.Context, what string, every time.Duration, done func() (bool, error)) error {
	deadline := time.After(patience)
	for {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return errors.Join(fmt.Errorf("waited %s for: %s", patience, what), err)
		case <-time.After(every):
		}
	}
}

// noPods waits until there is no pod of the Services of which the name begins so.
func (b *bench) noPods(ctx context.Context, prefix string) error {
	return until(ctx, "the Services "+prefix+"… are at zero", 100*time.Millisecond, func() (bool, error) {
		pods, err := b.pods(ctx, prefix)
		b.progress("%d pods until all are at zero", len(pods))
		return err == nil && len(pods) == 0, err
	})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
