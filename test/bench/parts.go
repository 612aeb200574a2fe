package main

import (
	"context"
	"slices"
)

// part is something that is measured. It adds its figures as soon as it has them, what it
// has of them too when it is interrupted, and tells how far it is.
type part struct {
	name  string // of -only, in the order of the table
	about string
	fresh bool // on a platform to which nothing was done yet
	alone bool // needs no platform
	do    func(context.Context, *bench) error
}

// table of all parts. A part that is measured again with many Services is there once for each size, last, because
// making the Services takes long.
func table(o options) []part {
	const (
		coldAbout   = "the first request of a Service at zero, beside the same image as a plain Deployment"
		splitAbout  = "from the change of a split to the last answer of the old Revision, beside three plain writes"
		memoryAbout = "memory and processor of each process when all Services are idle"
	)
	parts := []part{
		{name: "create", about: "from creating a Service to Ready, beside a plain Deployment", do: func(ctx context.Context, b *bench) error { return b.create(ctx) }},
		{name: "cold", about: coldAbout, do: func(ctx context.Context, b *bench) error { return b.cold(ctx, 0) }},
		{name: "burst", about: "many requests at once to a Service at zero, beside the same to a plain pod", do: func(ctx context.Context, b *bench) error { return b.burst(ctx) }},
		{name: "warm", about: "requests to a warm pod, beside a bare Envoy in front of it", do: func(ctx context.Context, b *bench) error { return b.warm(ctx) }},
		{name: "split", about: splitAbout, do: func(ctx context.Context, b *bench) error { return b.split(ctx, few) }},
		{name: "accuracy", about: "the autoscaler's averages beside the application's and the client's own count", do: func(ctx context.Context, b *bench) error { return b.accuracy(ctx, 2) }},
		{name: "step", about: "from a step of load to the change of the scale", do: func(ctx context.Context, b *bench) error { return b.steps(ctx, min(o.n, 20)) }},
		{name: "plane", about: "the same with no API server: the publisher, the discovery server and a real Envoy", alone: true, do: func(ctx context.Context, b *bench) error { return b.plane(ctx) }},
		{name: "memory", about: memoryAbout, fresh: true, do: func(ctx context.Context, b *bench) error { return b.memory(ctx, 0) }},
	}
	if o.quick && len(o.only) == 0 { // too long for a try
		parts = slices.DeleteFunc(parts, func(p part) bool { return p.name == "accuracy" || p.name == "step" })
	}
	for _, n := range o.sizes {
		if half := n / 2; n <= 1000 && !o.quick {
			parts = append(parts, part{name: "memory", about: memoryAbout, do: func(ctx context.Context, b *bench) error { return b.memory(ctx, half) }})
		}
		parts = append(parts,
			part{name: "memory", about: memoryAbout, do: func(ctx context.Context, b *bench) error { return b.memory(ctx, n) }},
			part{name: "split", about: splitAbout, do: func(ctx context.Context, b *bench) error { return b.split(ctx, n) }},
		)
		if !o.quick {
			parts = append(parts, part{name: "cold", about: coldAbout, do: func(ctx context.Context, b *bench) error { return b.cold(ctx, n) }})
		}
	}
	return parts
}

// few is how many Services exist where their number is not to matter.
const few = 10
