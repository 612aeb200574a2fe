package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/test/bench/figures"
)

// atOnceCount is how many Services are made at once.
const atOnceCount = 190

// create measures from creating a Service to Ready, and beside it a plain Deployment until
// Kubernetes says of it what it says of a Ready one; one by one in turns, and many at once.
func (b *bench) create(ctx context.Context) error {
	singles, many := 20, atOnceCount
	if b.quick {
		singles, many = 3, 10
	}
	for _, c := range []struct{ what, key, scale string }{{"at zero", "one", "0"}, {"with a first pod", "one_with_pod", "1"}} {
		if err := b.createSingly(ctx, c.what, c.key, c.scale, singles); err != nil {
			return err
		}
	}
	for _, c := range []struct{ what, key, scale string }{{"at zero", "", "0"}, {"with a first pod each", "_with_pod", "1"}} {
		if err := b.createAtOnce(ctx, c.what, fmt.Sprint(many)+c.key, c.scale, many); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) created(name, namespace, scale string) client.Object {
	f := form{annotations: map[string]string{serving.InitialScaleAnnotation: scale}}
	if scale != "0" {
		f.annotations[serving.MinScaleAnnotation] = scale // it must not go down while it is measured
	}
	return b.object(namespace, name, f)
}

func (b *bench) createdFloor(name, namespace, scale string) client.Object {
	n, _ := strconv.Atoi(scale)
	return b.deployment(namespace, name, int32(n))
}

// making is one namespace in which Services and Deployments are made.
type making struct {
	b         *bench
	namespace string
	done      chan string // names, as they are Ready
}

func (b *bench) making(ctx context.Context) (*making, error) {
	ns := &corev1.Namespace{}
	ns.GenerateName = "create-"
	if err := b.Create(ctx, ns); err != nil {
		return nil, err
	}
	m := &making{b, ns.Name, make(chan string, 4*atOnceCount)}
	if err := b.eachReady(ctx, ns.Name, func(name string) { m.done <- name }); err != nil {
		return nil, err
	}
	w, err := b.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace(ns.Name))
	if err != nil {
		return nil, err
	}
	go func() {
		seen := map[string]bool{}
		for event := range w.ResultChan() {
			d, is := event.Object.(*appsv1.Deployment)
			if !is || seen[d.Name] || d.Labels[serving.RevisionLabel] != "" || !settled(d) {
				continue
			}
			seen[d.Name] = true
			m.done <- d.Name
		}
	}()
	return m, nil
}

// settled: Kubernetes has made what the Deployment asks for.
func settled(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration == d.Generation && d.Status.AvailableReplicas == *d.Spec.Replicas && len(d.Status.Conditions) > 0
}

// wait for the next that is Ready.
func (m *making) wait(ctx context.Context) (string, error) {
	select {
	case name := <-m.done:
		return name, nil
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(patience):
		return "", fmt.Errorf("waited %s for the next to be Ready", patience)
	}
}

// remove the namespace with all that is in it, and wait until the pods are gone.
func (m *making) remove(ctx context.Context) error {
	ns := &corev1.Namespace{}
	ns.Name = m.namespace
	if err := m.b.Delete(ctx, ns); err != nil {
		return err
	}
	return until(ctx, "namespace "+m.namespace+" is gone", 500*time.Millisecond, func() (bool, error) {
		err := m.b.Get(ctx, client.ObjectKeyFromObject(ns), ns)
		m.b.progress("taking away what was made")
		return err != nil && client.IgnoreNotFound(err) == nil, err
	})
}

func (b *bench) createSingly(ctx context.Context, what, key, scale string, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m, err := b.making(ctx)
	if err != nil {
		return err
	}
	var took, bare []float64
	defer func() {
		floor := "a plain Deployment of the same image, " + what + ", from its creation until the Deployment controller has written that all is there; in turns with the Services"
		method := "a Service " + what + ", from sending its creation until a watch shows it Ready; nothing else is being made"
		b.add("create."+key+"_ready_ms", "ms", figures.Median(took), len(took), "median; "+method)
		b.sheet.Quantiles("create."+key+"_ready_ms.*", "ms", method, took, 50, 90)
		b.sheet.Quantiles("create."+key+"_floor_ms.*", "ms", floor, bare, 50, 90)
		b.sheet.Quantiles("create."+key+"_ratio.*", "x", "by pairs; "+method+", over: "+floor, figures.Pairwise(took, bare, figures.Over), 50)
	}()
	for i := range n {
		for _, o := range []client.Object{b.created(fmt.Sprintf("made-%d", i), m.namespace, scale), b.createdFloor(fmt.Sprintf("floor-%d", i), m.namespace, scale)} {
			began := time.Now()
			if err := b.Create(ctx, o); err != nil {
				return err
			}
			if _, err := m.wait(ctx); err != nil {
				return err
			}
			t := milliseconds(time.Since(began))
			if strings.HasPrefix(o.GetName(), "made") {
				took = append(took, t)
			} else {
				bare = append(bare, t)
			}
		}
		b.progress("made %d of %d, %s", i+1, n, what)
	}
	return m.remove(ctx)
}

func (b *bench) createAtOnce(ctx context.Context, what, key, scale string, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, kind := range []struct {
		name string
		make func(name, namespace, scale string) client.Object
	}{{"made", b.created}, {"floor", b.createdFloor}} {
		m, err := b.making(ctx)
		if err != nil {
			return err
		}
		before, err := b.quietRequests(ctx)
		if err != nil {
			return err
		}
		busy := b.usedByParts()
		began := time.Now()
		failed := make(chan error, n)
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() { failed <- b.Create(ctx, kind.make(fmt.Sprintf("%s-%d", kind.name, i), m.namespace, scale)) })
		}
		group.Wait()
		for range n {
			if err := <-failed; err != nil {
				return err
			}
		}
		for i := range n {
			if _, err := m.wait(ctx); err != nil {
				return err
			}
			b.progress("%d of %d at once are there, %s", i+1, n, what)
		}
		took := time.Since(began).Seconds()
		if kind.name == "floor" {
			b.add("create."+key+"_floor_s", "s", took, n, fmt.Sprintf("%d plain Deployments of the same image created at once, %s, until the Deployment controller has written of the last one that all is there", n, what))
			if made, ok := b.sheet.Get("create." + key + "_ready_s"); ok {
				b.add("create."+key+"_ratio", "x", made.Value/took, 0, "Services until all are Ready, over plain Deployments until all are there, in the same run")
			}
		} else {
			b.add("create."+key+"_ready_s", "s", took, n, fmt.Sprintf("%d Services created at once, %s, from sending the first until a watch shows the last one Ready", n, what))
		}
		after, err := b.quietRequests(ctx)
		if err != nil {
			return err
		}
		b.perService(key, kind.name, what, n, before, after, busy)
		if err := m.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// perService adds the requests to the API server and the processor time that one of many took.
func (b *bench) perService(key, kind, what string, n int, before, after map[string]float64, busy map[string]time.Duration) {
	each := "create." + key
	if kind == "floor" {
		each += "_floor"
	}
	each += "_"
	whole, events := 0.0, 0.0
	for name, count := range after {
		if strings.Contains(name, " events") {
			events += count - before[name]
		} else {
			whole += count - before[name]
		}
	}
	how := fmt.Sprintf("%d %s at once, %s: ", n, map[string]string{"made": "Services", "floor": "plain Deployments"}[kind], what)
	b.add(each+"requests_per_service", "requests", whole/float64(n), n,
		how+"requests to the API server about them and all that is made for them, of everybody (the controllers of Kubernetes and the node included; no watches, lists and Events), until a second passed without one, over their number")
	b.add(each+"event_requests_per_service", "requests", events/float64(n), n, how+"the same for Events")
	now := b.usedByParts()
	total := 0.0
	for _, part := range b.partNames() {
		total += milliseconds(now[part] - busy[part])
	}
	b.add(each+"cpu_ms_per_service", "ms", total/float64(n), n, how+"processor time of all processes of the platform, the control plane of Kubernetes included, until it is quiet, over their number")
	for _, part := range b.partNames() {
		if t := milliseconds(now[part]-busy[part]) / float64(n); kind == "made" && t >= 1 {
			b.add(each+"cpu_ms_per_service."+part, "ms", t, n, how+"the part of it that "+part+" used")
		}
	}
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

// requests counts what the API server was asked about the objects of Services.
func (b *bench) requests(ctx context.Context) (map[string]float64, error) {
	c, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return nil, err
	}
	text, err := c.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	return parseRequests(text)
}

// parseRequests reads the API server's metrics: requests by verb and resource, without
// watches and lists.
func parseRequests(metrics []byte) (map[string]float64, error) {
	counts := map[string]float64{}
	for line := range bytes.Lines(metrics) {
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
