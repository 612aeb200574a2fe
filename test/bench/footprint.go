package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// footprint counts the API objects of one idle Service by kind, in a namespace of its own, and the memory of each process.
func (b *bench) footprint(ctx context.Context) error {
	const namespace = "footprint"
	if err := b.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	before, err := b.objects(ctx, namespace)
	if err != nil {
		return err
	}
	if err := b.serviceIn(ctx, namespace, "one", map[string]string{"autoscaling.knative.dev/initial-scale": "0"}, nil); err != nil {
		return err
	}
	after, err := b.objects(ctx, namespace)
	if err != nil {
		return err
	}
	total := 0.0
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		if n := after[kind] - before[kind]; n > 0 {
			b.add("API objects of an idle Service: "+kind, "objects", float64(n))
			if kind != "events" {
				total += float64(n)
			}
		}
	}
	b.add("API objects of an idle Service, without Events", "objects", total)
	return b.memory(ctx)
}

// objects counts what exists in the namespace, by resource. Events are counted once.
func (b *bench) objects(ctx context.Context, namespace string) (map[string]int, error) {
	d, err := discovery.NewDiscoveryClientForConfig(b.config)
	if err != nil {
		return nil, err
	}
	lists, err := d.ServerPreferredNamespacedResources()
	if err != nil {
		return nil, err
	}
	m, err := metadata.NewForConfig(b.config)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || (r.Name == "events" && gv.Group != "") {
				continue
			}
			found, err := m.Resource(gv.WithResource(r.Name)).Namespace(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Name, err)
			}
			name := r.Name
			if gv.Group != "" {
				name += "." + gv.Group
			}
			counts[name] += len(found.Items)
		}
	}
	return counts, nil
}

// memory of each process of the platform, as /proc has it.
func (b *bench) memory(ctx context.Context) error {
	var services corev1.ServiceList
	if err := b.List(ctx, &services); err != nil {
		return err
	}
	count := 0
	for _, s := range services.Items {
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			count++
		}
	}
	for _, part := range slices.Sorted(maps.Keys(b.running.Parts)) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.running.Parts[part]))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				b.add(fmt.Sprintf("resident memory with %d services: %s", count, part), "MB", kb/1024)
			}
		}
	}
	return nil
}
