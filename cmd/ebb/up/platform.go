package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"

	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/cmd/ebb/envoybin"
	"ebb.dev/ebb/cmd/ebb/supervise"
)

const (
	minFree      = 1 << 30 // bytes on the data folder's disk
	partDeadline = 90 * time.Second
)

// Platform is a running platform. Its methods may be called from several goroutines.
type Platform struct {
	layout
	progress *Progress
	lock     *datadir.Lock
	spawner  *supervise.Spawner

	mu       sync.Mutex
	children map[string]*supervise.Child
	stopping bool

	unregister func() // what the kube-apiserver is to forget before the end; nil: nothing
}

// Start brings a platform up and returns when every part serves. When ctx ends or a
// part cannot run, what was started is ended again before Start returns. now, when
// closed, makes that quick.
func Start(ctx context.Context, o Options, now <-chan struct{}) (*Platform, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := datadir.At(o.Data)
	if err != nil {
		return nil, err
	}
	found, err := findPrograms()
	if err != nil {
		return nil, err
	}
	lock, err := dir.Lock()
	if err != nil {
		return nil, err
	}
	p := &Platform{
		layout:   layout{dir: dir, options: o, programs: found},
		progress: NewProgress(o.Out), lock: lock, spawner: supervise.NewSpawner(),
		children: map[string]*supervise.Child{},
	}
	if err := p.start(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		p.Stop(now)
		return nil, err
	}
	return p, nil
}

func (p *Platform) start(ctx context.Context) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	c, err := p.connect(p.dir.Kubeconfig())
	if err != nil {
		return err
	}
	// What needs nothing starts at once; Envoy and the activator wait for the
	// controller by themselves.
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.run(gctx, p.etcd()) })
	g.Go(func() error { return p.run(gctx, p.registry()) })
	if p.options.Eventing {
		g.Go(func() error { return p.run(gctx, p.nats()) })
	}
	controllerUp := make(chan struct{})
	g.Go(func() error {
		path, err := p.findEnvoy(gctx)
		if err != nil {
			return err
		}
		p.envoy = path
		select { // its admission refuses connections until then, and its back-off would cost time
		case <-controllerUp:
		case <-gctx.Done():
			return gctx.Err()
		}
		return p.run(gctx, p.gateway())
	})
	g.Go(func() error {
		if err := p.run(gctx, p.apiserver()); err != nil {
			return err
		}
		g.Go(func() error {
			if err := p.run(gctx, p.kcm()); err != nil {
				return err
			}
			return wait.PollUntilContextTimeout(gctx, 50*time.Millisecond, partDeadline, true, func(ctx context.Context) (bool, error) {
				return accountThere(ctx, c) == nil, nil
			})
		})
		installed := make(chan struct{})
		g.Go(func() error {
			if err := p.run(gctx, p.node()); err != nil {
				return err
			}
			select {
			case <-installed: // the Service that it is reached by
			case <-gctx.Done():
				return gctx.Err()
			}
			p.mu.Lock()
			p.unregister = func() { unregisterMetrics(c) }
			p.mu.Unlock()
			return p.registerMetrics(gctx, c)
		})
		if err := p.install(gctx, c); err != nil {
			return err
		}
		close(installed)
		p.progress.Line("kinds and settings installed")
		for i := range p.activators() {
			g.Go(func() error { return p.run(gctx, p.activator(i)) })
		}
		if p.options.Eventing {
			g.Go(func() error { return p.run(gctx, p.eventing()) })
		}
		if err := p.run(gctx, p.controller(0)); err != nil {
			return err
		}
		close(controllerUp)
		for i := 1; i < len(p.controllers()); i++ {
			g.Go(func() error { return p.run(gctx, p.controller(i)) })
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return p.record()
}

// prepare does what needs no process: the folder, what an earlier run left, ports,
// certificates, Envoy's bootstrap.
func (p *Platform) prepare(ctx context.Context) error {
	if p.options.Clean {
		p.cleanPods(ctx) // their processes use the files
	}
	if err := p.dir.Open(p.options.Clean, minFree); err != nil {
		return err
	}
	if left, err := p.cleanLeft(); err != nil {
		return err
	} else if left > 0 {
		p.progress.Line("ended %d processes of an earlier run", left)
	}
	p.cleanPods(ctx)
	p.dir.RemoveRunning()
	var moved []string
	var err error
	if p.ports, moved, err = p.dir.Ports(portRequests(p.options)); err != nil {
		return err
	}
	for _, name := range moved {
		switch name {
		case "etcd-peer":
			p.newPeer = true
		case "registry":
			p.progress.Line("the registry's port is taken and it moved to %d: images of services deployed before have to be deployed again, or free the port and restart", p.ports[name])
		}
	}
	if err := prepareTrust(p.dir, "https://"+p.at("apiserver"), time.Now()); err != nil {
		return err
	}
	if p.options.AuditLog != "" {
		if err := os.WriteFile(p.auditPolicy(), []byte(auditPolicy), 0o600); err != nil {
			return err
		}
	}
	return p.gatewayConfig().Write()
}

// cleanPods ends every container that runs from the folder.
func (p *Platform) cleanPods(ctx context.Context) {
	if _, err := os.Stat(p.dir.Path("node")); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, p.programs.node, "--cleanup", "--data="+p.dir.Path("node")).CombinedOutput()
	if err != nil {
		p.progress.Line("some containers could not be ended: %v %s", err, strings.TrimSpace(string(output)))
	}
}

func (p *Platform) findEnvoy(ctx context.Context) (string, error) {
	search, err := envoybin.Default(p.options.Envoy)
	if err != nil {
		return "", err
	}
	path, source, err := search.Find()
	if errors.Is(err, envoybin.ErrNotFound) {
		return search.Fetch(ctx, func(line string) { p.progress.Line("%s", line) })
	}
	if err == nil && p.options.Verbose {
		p.progress.Line("Envoy %s (from %s)", path, source)
	}
	return path, err
}

// run starts a part and waits until it serves.
func (p *Platform) run(ctx context.Context, spec supervise.Spec) error {
	began := time.Now()
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return errors.New("stopping")
	}
	child, err := supervise.Start(p.spawner, spec, p.changed)
	if err == nil {
		p.children[spec.Name] = child
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, partDeadline)
	defer cancel()
	if err := child.WaitReady(ctx); err != nil {
		return err
	}
	p.progress.Line("%-24s ready after %.1fs", spec.Name, time.Since(began).Seconds())
	return nil
}

func (p *Platform) changed(e supervise.Event) {
	if !e.Again {
		p.progress.Line("%s ended (%s); it starts again in %s; its log: %s", e.Name, e.Cause, e.Pause, p.dir.Log(e.Name))
	}
	if p.up() { // with the new process id
		_ = p.record()
	}
}

func (p *Platform) up() bool {
	_, err := os.Stat(p.dir.Path("running.json"))
	return err == nil
}

// record tells user commands where the platform is.
func (p *Platform) record() error { return p.dir.WriteRunning(p.Running()) }

// Running says where the platform is.
func (p *Platform) Running() datadir.Running {
	p.mu.Lock()
	defer p.mu.Unlock()
	parts := map[string]int{}
	for name, child := range p.children {
		parts[name] = child.PID()
	}
	activators := map[string]string{}
	for _, name := range p.activators() {
		activators[name] = p.at(name + "-metrics")
	}
	controllers := map[string]string{}
	for i, name := range p.controllers() {
		controllers[name] = p.at(controllerPort(i, "metrics"))
	}
	gateway, secure := p.external(), p.externalHTTPS()
	if strings.HasPrefix(gateway, "0.0.0.0:") || strings.HasPrefix(gateway, "[::]:") {
		gateway, secure = p.at("gateway"), p.at("gateway-https")
	}
	var events, eventing, inspect, nats string
	if p.options.Eventing {
		events, eventing, inspect, nats = p.eventsURL(), p.at("eventing-metrics"), p.at("eventing-inspect"), p.at("nats-metrics")
	}
	return datadir.Running{
		Events: events, Eventing: eventing, Inspect: inspect, NATS: nats,
		PID: os.Getpid(), Kubeconfig: p.dir.Kubeconfig(), Gateway: gateway, GatewayHTTPS: secure, Internal: p.at("internal"), Registry: fmt.Sprintf("localhost:%d", p.ports["registry"]),
		Controller: p.at("controller-metrics"), Controllers: controllers, Control: p.at("xds"), Activator: p.at("activator-metrics"), Activators: activators, GatewayMetrics: p.at("gateway-metrics"), Parts: parts,
	}
}

// Progress is where the platform's lines go.
func (p *Platform) Progress() *Progress { return p.progress }

// Data is the platform's folder.
func (p *Platform) Data() datadir.Dir { return p.dir }

// stopOrder is first what takes requests, then what makes pods, then the pods, then what
// they all need.
func (p *Platform) stopOrder() [][]string {
	return [][]string{
		{partEventing}, // it gives back what it has not delivered
		{partGateway},  // drained: it may still need the others
		p.activators(),
		append(p.controllers(), partKCM, partNode),
		{}, // the pods
		{partAPIServer, partRegistry, partNATS},
		{partEtcd},
	}
}

// Stop ends every part in order and returns when all are gone. It goes fast once now
// is closed. Further calls return when the first one does.
func (p *Platform) Stop(now <-chan struct{}) {
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return
	}
	p.stopping = true
	unregister := p.unregister
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if unregister != nil {
			unregister()
		}
		for _, group := range p.stopOrder() {
			if len(group) == 0 {
				p.cleanPods(context.Background())
				continue
			}
			p.each(group, (*supervise.Child).Stop)
		}
	}()
	select {
	case <-done:
	case <-now:
		for _, group := range p.stopOrder() {
			p.each(group, (*supervise.Child).Kill)
		}
		<-done
	}
	p.dir.RemoveRunning()
	p.lock.Release()
	p.spawner.Close()
}

func (p *Platform) each(names []string, do func(*supervise.Child)) {
	var group sync.WaitGroup
	for _, name := range names {
		p.mu.Lock()
		child := p.children[name]
		p.mu.Unlock()
		if child != nil {
			group.Go(func() { do(child) })
		}
	}
	group.Wait()
}
