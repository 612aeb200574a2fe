package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/publish"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// planeSizes are how many Routes there are.
var planeSizes = []int{100, 10_000}

const planeMethod = "the publisher and the discovery server of the control plane in this process, with real informers that watch a list of objects in memory instead of an API server; " +
	"a real Envoy and 19 clients of delta ADS are its gateways; "

// plane measures a change of a split from the write of a Route's status on: what the platform adds to
// the API server's writes, with more Routes than can be made in the time of a benchmark.
func (b *bench) plane(ctx context.Context) error {
	for _, routes := range planeSizes {
		if err := b.planeOf(ctx, routes); err != nil {
			return fmt.Errorf("%d Routes: %w", routes, err)
		}
	}
	small, ok := b.sheet.Get(fmt.Sprintf("plane.split.p50_ms.%d", planeSizes[0]))
	large, is := b.sheet.Get(fmt.Sprintf("plane.split.p50_ms.%d", planeSizes[1]))
	if ok && is {
		b.add("plane.split.p50_growth", "x", large.Value/small.Value, 0, planeMethod+fmt.Sprintf("p50 with %d Routes over p50 with %d: 1 is flat", planeSizes[1], planeSizes[0]))
	}
	return nil
}

func (b *bench) planeOf(ctx context.Context, routes int) error {
	ctx, cancel := context.WithCancel(ctx)
	w, err := newWorld(routes)
	defer func() {
		cancel()
		w.stop()
	}()
	if err != nil {
		return err
	}
	before := liveHeap() // with the objects in the list, which an API server would have
	server, at, err := w.serve(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	with := fmt.Sprintf("; %d Routes, one Revision each, at zero but for two", routes)
	b.add(fmt.Sprintf("plane.heap_kb_per_route.%d", routes), "kB", (liveHeap()-before)/1024/float64(routes), 0,
		planeMethod+"live heap of informers, publisher and discovery server after a collection, over the Routes, no gateway connected yet"+with)

	began := time.Now()
	gateway, err := startGateway(ctx, at, w.gateway)
	if err != nil {
		return err
	}
	defer gateway.stop()
	first := ask(ctx, gateway.address, w.host(0))
	for ; !first.ok(); first = ask(ctx, gateway.address, w.host(0)) {
		if ctx.Err() != nil || time.Since(began) > patience {
			return fmt.Errorf("the gateway does not answer: %w", first.problem())
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.add(fmt.Sprintf("plane.gateway_start_ms.%d", routes), "ms", milliseconds(time.Since(began)), 1, planeMethod+"from the start of the Envoy to its first answer through a Route"+with)
	if r, err := residentOf(gateway.pid); err == nil {
		b.add(fmt.Sprintf("plane.gateway_mb.%d", routes), "MB", r.rss, 0, "resident memory of that Envoy, two workers, after its first request"+with)
	}
	others, err := connectGateways(ctx, gatewaysInAll-1, w.routeName(0), at, insecure.NewCredentials())
	if err != nil {
		return err
	}
	defer others.close()

	var last, all []float64
	defer func() {
		b.sheet.Quantiles(fmt.Sprintf("plane.split.*_ms.%d", routes), "ms", planeMethod+"from the write of a Route's status that gives 100 % to the other warm Revision, to the moment when the last answer of the old one arrived, under 8 connections that ask all the time"+with, last, 50, 90, 99)
		b.sheet.Quantiles(fmt.Sprintf("plane.split.gateways_%d.*_ms.%d", gatewaysInAll, routes), "ms", planeMethod+"the same to "+allMethod+with, all, 50, 90, 99)
	}()
	for i := range b.n {
		from, to := i%2, 1-i%2
		calls := b.call(ctx, gateway.address, w.host(0), w.revision(from))
		t, a, err := w.change(ctx, calls, others, from, to)
		sent, lost := calls.stop()
		b.count(sent, lost)
		if err != nil {
			return err
		}
		last, all = append(last, t), append(all, a)
		b.progress("%d Routes, change %d of %d: %.1f ms", routes, i+1, b.n, t)
	}
	return nil
}

// change the split and return when the last answer of the old Revision came, and when all
// gateways had acknowledged, in ms.
func (w *world) change(ctx context.Context, calls *callers, others *gateways, from, to int) (last, all float64, err error) {
	if err := calls.await(ctx, w.revision(from)); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	w.routes.Modify(w.route(0, to))
	if err := calls.await(ctx, w.revision(to)); err != nil {
		return 0, 0, err
	}
	last = milliseconds(max(0, calls.lastOld().Sub(began)))
	var acknowledged time.Time
	err = until(ctx, "all gateways have acknowledged", time.Millisecond, func() (bool, error) {
		acknowledged, err = others.last(began)
		return err == nil, err
	})
	return last, max(last, milliseconds(acknowledged.Sub(began))), err
}

// liveHeap in bytes.
func liveHeap() float64 {
	runtime.GC()
	runtime.GC() // what the first one found to be finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// serve starts the publisher and its server, and returns where that listens once the world is complete.
func (w *world) serve(ctx context.Context) (*grpc.Server, string, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	free, err := freePort()
	if err != nil {
		return nil, "", err
	}
	w.gateway = fmt.Sprintf("127.0.0.1:%d", free)
	publisher, err := publish.New(publish.Options{
		Cache: w.cache, Settings: settings.NewStore(), Logger: quiet, XDS: xds.Options{Logger: quiet},
		Listeners: translate.Listeners(netip.MustParseAddrPort(w.gateway), netip.AddrPort{}, netip.AddrPort{}),
	})
	if err != nil {
		return nil, "", err
	}
	publisher.Members([]members.Member{{Name: "activator-0", ID: "activator-0@1", Address: netip.MustParseAddrPort("127.0.0.1:9")}})
	if err := publisher.Index(ctx); err != nil {
		return nil, "", err
	}
	w.group.Go(func() { _ = w.cache.Start(ctx) })
	w.group.Go(func() { _ = publisher.Warm(ctx) })
	w.group.Go(func() { _ = publisher.Start(ctx) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := grpc.NewServer(xds.GRPCOptions()...)
	publisher.Server().Register(server)
	go func() { _ = server.Serve(listener) }()
	err = until(ctx, "the world is translated", 5*time.Millisecond, func() (bool, error) { return publisher.Complete(), nil })
	return server, listener.Addr().String(), err
}

// realGateway is an Envoy of the plane.
type realGateway struct {
	address string
	pid     int
	stop    func()
}

// startGateway starts an Envoy that has its configuration from the server, which tells it to listen on address.
func startGateway(ctx context.Context, control, address string) (*realGateway, error) {
	bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{NodeID: "gateway-0", Controller: control})
	if err != nil {
		return nil, err
	}
	pid, stop, err := startEnvoy(ctx, bootstrap, "2")
	if err != nil {
		return nil, err
	}
	return &realGateway{address: address, pid: pid, stop: stop}, nil
}
