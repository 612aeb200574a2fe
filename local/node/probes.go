package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ebb.dev/ebb/local/probe"
	"ebb.dev/ebb/local/shim"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// serving is the port of the container that $PORT stands for, 0 when it has none.
func (c *container) serving() int32 {
	if c.init {
		return 0
	}
	for _, m := range c.p.mains { // the first container that declares a port serves
		if len(m.spec.Ports) > 0 {
			if m == c {
				return c.spec.Ports[0].ContainerPort
			}
			return 0
		}
	}
	if len(c.p.mains) == 1 { // nothing declared: $PORT as the pod gives it, or any
		for _, e := range c.spec.Env {
			if e.Name == "PORT" {
				if n := intstr.Parse(e.Value); n.Type == intstr.Int {
					return n.IntVal
				}
			}
		}
		return -1
	}
	return 0
}

// port gives the real port of a port of the pod's spec: the one that the pod
// serves on is the pod's own, all others are what they say.
func (c *container) port(p intstr.IntOrString) (int, error) {
	n := int32(p.IntValue()) //nolint:gosec // a port
	if p.Type == intstr.String && n == 0 {
		for _, q := range c.spec.Ports {
			if q.Name == p.StrVal {
				n = q.ContainerPort
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("container %s has no port named %q", c.spec.Name, p.StrVal)
		}
	}
	s := c.serving()
	for _, m := range c.p.mains { // a probe may look at the container that serves
		if s == 0 {
			s = m.serving()
		}
	}
	if n == 0 || n == s || s == -1 {
		return c.p.portNow(), nil
	}
	return int(n), nil
}

// probe runs the probes of one run until ctx ends.
func (c *container) probe(ctx context.Context, run *shim.Container) {
	loop := func(ctx context.Context, s *v1.Probe, eager bool, result func(bool, error) bool) {
		probe.Run(ctx, probe.Options{Spec: s, Eager: eager, Result: result, Check: func(ctx context.Context) error {
			return probe.Check(ctx, s.ProbeHandler, c.p.n.cfg.Address, c.port, func(ctx context.Context, command []string) error { return c.command(ctx, run, command) })
		}})
	}
	fatal := func(what string, s *v1.Probe) func(bool, error) bool {
		return func(ok bool, why error) bool {
			if ok {
				return what != "Startup" // once is enough
			}
			c.p.n.events.Eventf(c.p.object(), v1.EventTypeWarning, "Unhealthy", "%s probe failed: %v", what, why)
			c.p.n.log.Info("container is restarted", "pod", c.p.name, "container", c.spec.Name, "probe", what, "error", why)
			go c.restartRun(ctx, run, s)
			return false
		}
	}
	if s := c.spec.StartupProbe; s != nil && !c.isStarted() {
		passed := false
		end := fatal("Startup", s)
		loop(ctx, s, true, func(ok bool, why error) bool { passed = ok; return end(ok, why) })
		if !passed || ctx.Err() != nil {
			return
		}
		c.set(func() {
			if c.current == run {
				c.started, c.ready = true, c.spec.ReadinessProbe == nil
				c.noteUp()
			}
		})
	}
	var g sync.WaitGroup
	if s := c.spec.ReadinessProbe; s != nil {
		g.Go(func() {
			loop(ctx, s, true, func(ok bool, why error) bool {
				c.p.mu.Lock()
				changed := c.current == run && c.ready != ok
				if changed || !ok {
					c.ready, c.notReady = ok, text(why)
				}
				c.p.mu.Unlock()
				if changed || !ok {
					c.p.touch()
				}
				if changed && !ok {
					c.p.n.events.Eventf(c.p.object(), v1.EventTypeWarning, "Unhealthy", "Readiness probe failed: %v", why)
				}
				return true
			})
		})
	}
	if s := c.spec.LivenessProbe; s != nil {
		g.Go(func() { loop(ctx, s, false, fatal("Liveness", s)) })
	}
	g.Wait()
}

func (c *container) isStarted() bool {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.started
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// restartRun ends a run that its probe has given up; the container's life goes
// on with the next one.
func (c *container) restartRun(ctx context.Context, run *shim.Container, s *v1.Probe) {
	grace := c.grace()
	if s.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*s.TerminationGracePeriodSeconds) * time.Second
	}
	c.endBy(ctx, run, time.Now().Add(grace), nil)
}
