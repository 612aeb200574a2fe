package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// making measures the time from creating a Service to Ready, and how many requests the
// API server had for it, one after the other and a hundred at once; with a first pod and
// without.
func (b *bench) making(ctx context.Context) error {
	for _, c := range []struct {
		name, scale string
		count       int
		atOnce      bool
	}{
		{"one by one, at zero", "0", 20, false},
		{"one by one, with a pod", "1", 20, false},
		{"100 at once, at zero", "0", 100, true},
	} {
		if err := b.make(ctx, c.name, c.scale, c.count, c.atOnce); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) make(ctx context.Context, what, scale string, count int, atOnce bool) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "making-"}}
	if err := b.Create(ctx, ns); err != nil {
		return err
	}
	ready, stop, err := b.watchReady(ctx, ns.Name)
	if err != nil {
		return err
	}
	defer stop()
	before, err := b.requests(ctx)
	if err != nil {
		return err
	}
	busy := b.cpu()
	began := map[string]time.Time{}
	var times []float64
	wait := func() error {
		select {
		case r := <-ready:
			times = append(times, milliseconds(r.at.Sub(began[r.name])))
			return nil
		case <-time.After(2 * time.Minute):
			return errors.New("waited two minutes for a Service to be Ready")
		}
	}
	all := make([]*v1.Service, count)
	for i := range all {
		all[i] = b.unmade(ns.Name, fmt.Sprintf("made-%d", i), scale)
		began[all[i].Name] = time.Time{}
	}
	start := time.Now()
	if atOnce {
		failed := make(chan error, count)
		for _, s := range all {
			began[s.Name] = start
			go func() { failed <- b.Create(ctx, s) }()
		}
		for range all {
			if err := <-failed; err != nil {
				return err
			}
		}
		for range all {
			if err := wait(); err != nil {
				return err
			}
		}
	} else {
		for _, s := range all {
			began[s.Name] = time.Now()
			if err := b.Create(ctx, s); err != nil {
				return err
			}
			if err := wait(); err != nil {
				return err
			}
		}
	}
	b.add("create to Ready, "+what, "ms", times...)
	var parts []string
	for part, used := range b.cpu() {
		parts = append(parts, fmt.Sprintf("%s %.0f", part, milliseconds(used-busy[part])/float64(count)))
	}
	slices.Sort(parts)
	fmt.Printf("  processor time for one, ms: %s\n", strings.Join(parts, ", "))
	after, err := b.quietRequests(ctx)
	if err != nil {
		return err
	}
	total, events := 0.0, 0.0
	var each []string
	for key, n := range after {
		more := n - before[key]
		if more == 0 {
			continue
		}
		if strings.Contains(key, " events") {
			events += more
			continue
		}
		total += more
		each = append(each, fmt.Sprintf("%s %.1f", key, more/float64(count)))
	}
	slices.Sort(each)
	fmt.Printf("  requests for one: %s\n", strings.Join(each, ", "))
	b.add("requests to the API server for one Service, "+what, "requests", total/float64(count))
	b.add("and for its Events, "+what, "requests", events/float64(count))
	return nil
}

func (b *bench) unmade(namespace, name, scale string) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.Template.Annotations = map[string]string{serving.InitialScaleAnnotation: scale}
	if scale != "0" {
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = scale // it must not go down while requests are counted
	}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: b.image}}
	return s
}

type made struct {
	name string
	at   time.Time
}

// watchReady tells of each Service of a namespace once, when it is Ready.
func (b *bench) watchReady(ctx context.Context, namespace string) (<-chan made, func(), error) {
	c, err := client.NewWithWatch(b.config, client.Options{Scheme: b.Scheme()})
	if err != nil {
		return nil, nil, err
	}
	w, err := c.Watch(ctx, &v1.ServiceList{}, client.InNamespace(namespace))
	if err != nil {
		return nil, nil, err
	}
	out := make(chan made, 1000)
	go func() {
		seen := map[string]bool{}
		for event := range w.ResultChan() {
			s, is := event.Object.(*v1.Service)
			if is && !seen[s.Name] && s.Status.ObservedGeneration == s.Generation && s.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
				seen[s.Name] = true
				out <- made{s.Name, time.Now()}
			}
		}
	}()
	return out, w.Stop, nil
}

// cpu is the processor time that each part has used so far.
func (b *bench) cpu() map[string]time.Duration {
	used := map[string]time.Duration{}
	for part, pid := range b.running.Parts {
		used[part] = cpuOf(pid)
	}
	return used
}

// cpuOf is the processor time that the threads of a process have used; 0 if it is gone.
func cpuOf(pid int) (used time.Duration) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		nanoseconds, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(nanoseconds, 10, 64)
		used += time.Duration(n)
	}
	return used
}

// quietRequests are the requests once none has been added for a second.
func (b *bench) quietRequests(ctx context.Context) (map[string]float64, error) {
	last, err := b.requests(ctx)
	for err == nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
		var next map[string]float64
		if next, err = b.requests(ctx); err != nil {
			break
		}
		same := len(next) == len(last)
		for key, n := range next {
			same = same && last[key] == n
		}
		if last = next; same {
			break
		}
	}
	return last, err
}

// requests counts what the API server was asked about the objects of Services, by verb
// and resource, without watches and lists.
func (b *bench) requests(ctx context.Context) (map[string]float64, error) {
	c, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return nil, err
	}
	text, err := c.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	counts := map[string]float64{}
	for line := range bytes.Lines(text) {
		rest, ok := strings.CutPrefix(string(line), "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		get := func(name string) string {
			_, v, _ := strings.Cut(","+labels, ","+name+`="`)
			v, _, _ = strings.Cut(v, `"`)
			return v
		}
		verb, resource, group := get("verb"), get("resource"), get("group")
		switch resource {
		case "services", "configurations", "routes", "revisions", "deployments", "replicasets", "pods", "serviceaccounts", "secrets", "events":
		default:
			continue
		}
		if verb == "WATCH" || verb == "LIST" {
			continue
		}
		if group != "" {
			resource += "." + group
		}
		if sub := get("subresource"); sub != "" {
			resource += "/" + sub
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", line, err)
		}
		counts[verb+" "+resource] += n
	}
	return counts, nil
}
