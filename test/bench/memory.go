package main

import (
	"context"
	"fmt"
	"time"
)

// memory of each process, and the processor time that it uses, when so many Services exist
// and nothing happens.
func (b *bench) memory(ctx context.Context, services int) error {
	if err := b.fill(ctx, services); err != nil {
		return err
	}
	if _, err := b.quietRequests(ctx); err != nil {
		return err
	}
	fmt.Printf("  … leaving %d idle Services alone for %s\n", services, b.settling)
	before, began := b.usedByParts(), time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.settling):
	}
	after, during := b.usedByParts(), time.Since(began)

	how := fmt.Sprintf("with %d idle Services that never had a pod, on a platform that did nothing but make them, left alone for %s", services, b.settling)
	rss, pss, cores := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, part := range b.partNames() {
		r, err := residentOf(b.running.Parts[part])
		if err != nil {
			return err
		}
		rss[part], pss[part] = r.rss, r.pss
		cores[part] = float64(after[part]-before[part]) / float64(during)
	}
	add := func(name, what string, parts ...string) error {
		sum := func(of map[string]float64) (total float64) {
			for _, part := range parts {
				total += of[part]
			}
			return total
		}
		var once pages
		for _, part := range parts {
			if err := once.add(b.running.Parts[part]); err != nil {
				return err
			}
		}
		key := func(what string) string { return fmt.Sprintf("memory.%s_%s.%d", name, what, services) }
		b.add(key("mb"), "MB", once.mb(), 0, what+": the pages in memory, each page of a file once, however many of these processes map it (maps and pagemap of /proc), "+how)
		if len(parts) > 1 {
			b.add(key("rss_mb"), "MB", sum(rss), 0, what+": resident memory (Rss), what they map from the same files counted in each, "+how)
		}
		b.add(key("pss_mb"), "MB", sum(pss), 0, what+": proportional memory (Pss of smaps_rollup): a page that several processes of the machine map is counted in shares, "+how)
		b.add(key("idle_cores"), "cores", sum(cores), 0, what+": processor time over time while nothing was done, "+how)
		return nil
	}
	groups := []struct {
		name, what string
		parts      []string
	}{
		{"platform", "controller, activator and gateway together", platformParts},
		{"control_plane", "etcd, kube-apiserver and kube-controller-manager together", controlPlane},
		{"node", "the node", []string{"node"}},
	}
	for _, part := range platformParts {
		if err := add(part, "the "+part, part); err != nil {
			return err
		}
	}
	for _, g := range groups {
		if err := add(g.name, g.what, g.parts...); err != nil {
			return err
		}
	}
	first, ok := b.sheet.Get("memory.platform_rss_mb.0")
	now, is := b.sheet.Get(fmt.Sprintf("memory.platform_rss_mb.%d", services))
	if ok && is && services > 0 {
		b.add(fmt.Sprintf("memory.platform_kb_per_service.%d", services), "kB", (now.Value-first.Value)*1024/float64(services), 0,
			"what controller, activator and gateway hold more than with no Service, over the Services, resident, "+how)
	}
	return nil
}
