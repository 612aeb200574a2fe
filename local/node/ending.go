package node

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ebb.dev/ebb/local/logs"
	"ebb.dev/ebb/local/probe"
	"ebb.dev/ebb/local/shim"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// endWithGrace ends a run: the preStop hook, the stop signal, and at the pod's
// deadline the kill of everything. ctx ends when the run has.
func (c *container) endWithGrace(ctx context.Context, run *shim.Container) {
	deadline, sooner := c.p.end()
	if deadline.IsZero() { // a sidecar after the others: the pod itself is not ending
		deadline = time.Now().Add(c.grace())
	}
	c.endBy(ctx, run, deadline, sooner)
}

// endBy does it with a deadline, which may come nearer when sooner closes.
func (c *container) endBy(ctx context.Context, run *shim.Container, deadline time.Time, sooner <-chan struct{}) {
	c.hook(ctx, run, deadline, sooner)
	if err := run.Stop(); err != nil {
		c.p.n.log.Warn("ask a container to end", "pod", c.p.name, "container", c.spec.Name, "error", err)
	}
	for {
		t := time.NewTimer(time.Until(deadline))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-sooner:
			t.Stop()
			deadline, sooner = c.p.end()
			continue
		case <-t.C:
		}
		break
	}
	if err := run.Kill(); err != nil {
		c.p.n.log.Warn("kill a container", "pod", c.p.name, "container", c.spec.Name, "error", err)
	}
}

func (c *container) grace() time.Duration {
	if g := c.p.object().Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// hook runs preStop within the grace period. A hook that fails does not keep the
// container from ending.
func (c *container) hook(ctx context.Context, run *shim.Container, deadline time.Time, sooner <-chan struct{}) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil || !time.Now().Before(deadline) {
		return
	}
	h := c.spec.Lifecycle.PreStop
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	go func() { // a later delete with less grace
		for {
			select {
			case <-ctx.Done():
				return
			case <-sooner:
			}
			var at time.Time
			if at, sooner = c.p.end(); !at.After(time.Now()) {
				cancel()
				return
			}
		}
	}()
	var err error
	switch {
	case h.HTTPGet != nil:
		var q *http.Request
		if q, err = probe.Request(ctx, h.HTTPGet, c.p.n.cfg.Address, c.port); err == nil {
			var res *http.Response
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			if res, err = client.Do(q); err == nil {
				res.Body.Close()
			}
		}
	case h.Sleep != nil:
		t := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	case h.Exec != nil:
		err = c.command(ctx, run, h.Exec.Command)
	}
	if err != nil && ctx.Err() == nil {
		c.p.n.log.Warn("preStop hook", "pod", c.p.name, "container", c.spec.Name, "error", err)
		c.p.n.events.Eventf(c.p.object(), v1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
	}
}

// Bounds of a termination message, as a kubelet has them.
const (
	messageBytes    = 4096
	messageLogBytes = 2048
	messageLogLines = 80
)

// terminated is the state of a run that has ended.
func (c *container) terminated(dir string, e shim.Exit) v1.ContainerState {
	t := &v1.ContainerStateTerminated{
		ExitCode: int32(e.Code), Signal: 0, Reason: "Completed", //nolint:gosec // 0..255
		StartedAt: metav1.NewTime(e.Started), FinishedAt: metav1.NewTime(e.Finished), ContainerID: "ebb://" + string(c.p.uid) + "-" + c.spec.Name + "-" + filepath.Base(dir),
	}
	if e.Code != 0 {
		t.Reason = "Error"
	}
	if err := closeGroups(dir); err != nil {
		c.p.n.log.Warn("remove control groups", "pod", c.p.name, "container", c.spec.Name, "error", err)
	}
	if _, err := os.Stat(filepath.Join(dir, oomFile)); err == nil && e.Code != 0 {
		t.Reason = "OOMKilled"
	}
	if e.Error != "" {
		t.Message = e.Error
		if e.Code == 128 {
			t.Reason = "StartError"
			t.ContainerID = ""
		}
		return v1.ContainerState{Terminated: t}
	}
	if b, err := os.ReadFile(filepath.Join(dir, messageFile)); err == nil {
		t.Message = string(b[max(0, len(b)-messageBytes):])
	}
	if t.Message == "" && e.Code != 0 && c.spec.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError {
		var b strings.Builder
		if err := logs.Copy(context.Background(), &b, dir, logs.Options{Tail: messageLogLines}, nil, func() {}); err == nil {
			s := b.String()
			t.Message = s[max(0, len(s)-messageLogBytes):]
		}
	}
	t.Message = strings.ToValidUTF8(t.Message, "�")
	return v1.ContainerState{Terminated: t}
}
