// Package node is the node of the embedded default, whose pods are processes.
// Pods come in from the API server: unscheduled ones are bound to this node at
// once, with a free port in the annotation ebb.dev/port. For each pod it gets
// the image (local/image), starts every container under a shim (local/shim) with
// $PORT set to that port, probes it (local/probe), restarts it, ends it, and
// writes the pod's status as a kubelet does. It serves the kubelet's
// API for `kubectl logs` (local/logs), exec, cp, attach and port-forward, and metrics.k8s.io
// for `kubectl top` (local/metrics). A pod with PersistentVolumeClaims is bound once its
// claims are (local/storage).
//
// One goroutine a container runs its life, one a pod writes its status; all of
// what a new node process needs to take the containers over is on disk, so that
// a killed node harms none. cmd/ebb-node calls Run and Cleanup.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ebb.dev/ebb/local/image"
	"ebb.dev/ebb/local/shim"
	"ebb.dev/ebb/local/storage"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
)

// PortAnnotation is where a pod says on which port of its IP it really listens.
const PortAnnotation = "ebb.dev/port"

// IsolationAnnotation of the Node says how containers are kept apart.
const IsolationAnnotation = "ebb.dev/isolation"

// IsolationReasonAnnotation of the Node says why they are not kept apart better.
const IsolationReasonAnnotation = "ebb.dev/isolation-reason"

// LimitsAnnotation of the Node says why containers are not held to their limits; it is
// not there when they are.
const LimitsAnnotation = "ebb.dev/limits-not-enforced"

// Config is what Run needs.
type Config struct {
	Client *rest.Config // for the API server
	Name   string       // of the Node object
	Data   string       // folder of images, pods and logs; one node process at a time
	// Address is the IP of the node and of all its pods.
	Address string
	Shim    string // path of ebb-shim
	// Isolate false runs plain processes even where more is allowed.
	Isolate bool
	// Ports are given to pods, from Low up to and including High. They should be
	// outside the range of outgoing connections.
	PortLow, PortHigh int
	Limits            image.Limits
	API               APIConfig
	Metrics           APIConfig // of metrics.k8s.io; without Listen there is none
	ClusterLocal      ClusterLocal
	Logger            *slog.Logger
}

// Node is a running node.
type Node struct {
	cfg      Config
	client   kubernetes.Interface
	images   *image.Store
	ports    *ports
	iso      shim.Isolation
	isoWhy   string
	noLimits string // why containers are not held to their limits; "" when they are
	events   record.EventRecorder
	log      *slog.Logger
	api      net.Listener
	metrics  net.Listener // nil: none

	// ctx ends when the node process does; containers live on.
	ctx context.Context

	mu   sync.Mutex
	pods map[types.UID]*pod
	work sync.WaitGroup

	listed chan struct{} // closed when all pods that there were are in pods

	followed *followed
	storage  *storage.Storage
	hosts    *hosts // nil: containers have the machine's
}

// Run is the node until the context ends. It leaves the containers running: a
// later Run on the same folder takes them over.
func Run(ctx context.Context, cfg Config) error {
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return err
	}
	cfg.Data = data
	if err := os.MkdirAll(filepath.Join(data, "pods"), 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lock(data)
	if err != nil {
		return err
	}
	defer unlock()
	if cfg.PortLow == 0 {
		cfg.PortLow, cfg.PortHigh = 10000, 19999
	}
	c := rest.CopyConfig(cfg.Client)
	c.QPS = -1 // one node on a laptop: nobody else to be polite to
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return err
	}
	store, err := image.Open(filepath.Join(data, "images"), cfg.Limits)
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	n := &Node{cfg: cfg, client: client, images: store, ports: newPorts(cfg.PortLow, cfg.PortHigh), log: cfg.Logger, ctx: ctx, pods: map[types.UID]*pod{}, listed: make(chan struct{})}
	n.followed = &followed{n: n, all: map[source]*follower{}}
	n.keepPorts()
	if cfg.Isolate {
		if n.iso, n.isoWhy, err = shim.Best(ctx, cfg.Shim, data); err != nil {
			return fmt.Errorf("find out the isolation: %w", err)
		}
	} else {
		n.isoWhy = "asked for by --isolation=none"
	}
	if n.iso.Mounts && n.isoWhy == "" {
		n.log.Info("isolation of containers", "mode", n.iso.String())
	} else {
		n.log.Warn("isolation of containers", "mode", n.iso.String(), "because", n.isoWhy)
	}
	if cfg.ClusterLocal.Gateway != "" && n.iso.Mounts {
		if n.hosts, err = newHosts(filepath.Join(data, "hosts"), cfg.ClusterLocal.Host); err != nil {
			return fmt.Errorf("hosts file: %w", err)
		}
	}
	if err := tryLimits(ctx, cfg.Shim, data); err != nil {
		n.noLimits = err.Error()
		n.log.Warn("limits of containers are not enforced", "because", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typed.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	n.events = broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "ebb-node", Host: cfg.Name})

	if n.api, err = net.Listen("tcp", cfg.API.Listen); err != nil {
		return fmt.Errorf("listen for the kubelet API: %w", err)
	}
	if cfg.Metrics.Listen != "" {
		if n.metrics, err = net.Listen("tcp", cfg.Metrics.Listen); err != nil {
			return fmt.Errorf("listen for metrics.k8s.io: %w", err)
		}
	}
	n.storage, err = storage.New(storage.Config{Client: client, Events: n.events, Node: cfg.Name, Labels: n.labels(), Dir: filepath.Join(data, "volumes"), Logger: n.log})
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n.ctx = ctx
	parts := map[string]func(context.Context) error{"kubelet API": n.serve, "registration": n.register, "images": n.collect, "names of Services": n.names, "storage": n.storage.Run, "pods": n.watch}
	if n.metrics != nil {
		parts["metrics"] = n.serveMetrics
	}
	for what, f := range parts {
		n.work.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	<-ctx.Done()
	n.work.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// later waits; false when the node ends or stop closes first.
func (n *Node) later(d time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
	case <-n.ctx.Done():
	}
	return false
}
