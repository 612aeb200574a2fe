package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	"ebb.dev/ebb/local/image"
	"ebb.dev/ebb/local/shim"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// container is one container of a pod over all its restarts. Fields below the
// line are under the pod's mu.
type container struct {
	p    *pod
	spec *v1.Container
	init bool
	dir  string // holds a folder for each of the last two runs, named by its number
	// --
	state    v1.ContainerState
	last     v1.ContainerState // of the run before
	restarts int32
	ready    bool
	started  bool
	imageID  string
	id       string
	runDir   string        // newest run that has started
	ended    chan struct{} // closed when that run has ended
	current  *shim.Container
	notReady string // why the readiness probe fails
	adopted  *shim.Container

	up   chan struct{} // closed when it has started for the first time, its startup probe passed
	isUp bool
	said map[string]bool // events that are said once
}

// Back-off between restarts and pulls, as a kubelet's.
const (
	firstBackOff = 10 * time.Second
	mostBackOff  = 5 * time.Minute
)

func newContainer(p *pod, s *v1.Container, isInit bool) *container {
	return &container{p: p, spec: s, init: isInit, dir: filepath.Join(p.dir, "containers", s.Name),
		state: waiting("ContainerCreating", ""), up: make(chan struct{}), said: map[string]bool{}}
}

func waiting(reason, message string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func (c *container) sidecar() bool {
	return c.init && c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// set changes the container's status and has it written.
func (c *container) set(f func()) {
	c.p.mu.Lock()
	f()
	c.p.mu.Unlock()
	c.p.touch()
}

func (c *container) wait(reason, message string) {
	c.set(func() { c.state, c.ready, c.started = waiting(reason, message), false, false })
}

// attempts lists the numbers of the runs on disk, oldest first.
func (c *container) attempts() []int {
	list, _ := os.ReadDir(c.dir)
	var n []int
	for _, e := range list {
		if i, err := strconv.Atoi(e.Name()); err == nil {
			n = append(n, i)
		}
	}
	sort.Ints(n)
	return n
}

func (c *container) folder(n int) string { return filepath.Join(c.dir, strconv.Itoa(n)) }

// restore takes over what an earlier node process started; true when there was something.
func (c *container) restore() bool {
	n := c.attempts()
	if len(n) == 0 {
		return false
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	newest := n[len(n)-1]
	c.restarts = int32(newest) //nolint:gosec // a count of restarts
	if len(n) > 1 {
		if e, ok, _ := shim.ReadExit(c.folder(n[len(n)-2])); ok {
			c.last = c.terminated(c.folder(n[len(n)-2]), e)
		}
	}
	run, _, err := shim.Adopt(c.folder(newest))
	if err != nil || run.State.Shim.PID == 0 {
		if e, ok, _ := shim.ReadExit(c.folder(newest)); ok {
			c.state, c.runDir = c.terminated(c.folder(newest), e), c.folder(newest)
		}
		return true
	}
	c.adopted = run
	for _, s := range append(append([]v1.ContainerStatus(nil), c.p.obj.Status.ContainerStatuses...), c.p.obj.Status.InitContainerStatuses...) {
		if s.Name == c.spec.Name { // what is not on disk, and readiness until the probes know better
			c.imageID, c.ready = s.ImageID, s.Ready && s.State.Running != nil
			c.started = s.Started != nil && *s.Started
		}
	}
	return true
}

func (c *container) stopping() bool {
	select {
	case <-c.p.stopping:
		return true
	default:
		return false
	}
}

// run is the container's life. It returns true when it is over and was a success
// (false: failed for good, or the pod or the node ends). end, if given, ends it, and
// the end of the pod does not.
func (c *container) run(end <-chan struct{}) bool {
	backOff := time.Duration(0)
	run := c.adopted
	c.p.mu.Lock()
	previous := c.state.Terminated
	attempt := int(c.restarts)
	c.p.mu.Unlock()
	if previous != nil { // ended while no node process was there
		if !c.restart(int(previous.ExitCode)) {
			return previous.ExitCode == 0
		}
		attempt++
	}
	for {
		var exit shim.Exit
		var err error
		if run == nil {
			if c.stopping() || c.p.n.ctx.Err() != nil {
				return false
			}
			run, err = c.start(attempt)
		}
		if run != nil {
			if exit, err = c.watch(run, end); err != nil {
				return false // the node ends
			}
		} else {
			var failed *shim.Error
			if !errors.As(err, &failed) {
				return false // never started: the pod or the node ends
			}
			exit = failed.Exit
			exit.Error = failed.Reason
		}
		c.finish(attempt, exit)
		run = nil
		if c.stopping() || isClosed(end) || !c.restart(exit.Code) {
			return exit.Code == 0
		}
		if exit.Finished.Sub(exit.Started) > 2*mostBackOff {
			backOff = 0
		}
		if backOff > 0 {
			c.p.n.events.Eventf(c.p.object(), v1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s", c.spec.Name)
			c.set(func() {
				c.last = c.state
				c.state = waiting("CrashLoopBackOff", fmt.Sprintf("back-off %v restarting failed container=%s pod=%s", backOff, c.spec.Name, c.p.name))
			})
			if !c.p.n.later(backOff, c.p.stopping) {
				c.set(func() { c.state, c.last = c.last, v1.ContainerState{} })
				return false
			}
		}
		backOff = min(max(2*backOff, firstBackOff), mostBackOff)
		attempt++
	}
}

// noteUp closes up once the container has started; the pod's mu is held.
func (c *container) noteUp() {
	if c.started && !c.isUp {
		c.isUp = true
		close(c.up)
	}
}

// say tells the pod's owner something as a warning, the same words once.
func (c *container) say(reason, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.p.mu.Lock()
	again := c.said[reason+text]
	c.said[reason+text] = true
	c.p.mu.Unlock()
	if !again {
		c.p.n.events.Event(c.p.object(), v1.EventTypeWarning, reason, text)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return c != nil
	default:
		return false
	}
}

func (c *container) restart(code int) bool {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.restartsAfter(code)
}

// restartsAfter is the restart policy; the pod's mu is held.
func (c *container) restartsAfter(code int) bool {
	policy := c.p.obj.Spec.RestartPolicy
	switch {
	case c.sidecar():
		return true
	case c.init:
		return code != 0 && policy != v1.RestartPolicyNever
	case policy == v1.RestartPolicyNever:
		return false
	case policy == v1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// start gets the image and starts run number attempt. It tries until it is done;
// an error is that the program cannot be executed (*shim.Error) or that the pod
// or the node ends.
func (c *container) start(attempt int) (*shim.Container, error) {
	img, err := c.image()
	if err != nil {
		return nil, err
	}
	if attempt == 0 {
		c.p.times.pulled(c.p)
	}
	var spec shim.Spec
	dir := c.folder(attempt)
	for try := time.Second; ; try = min(2*try, 20*time.Second) {
		if spec, err = c.makeSpec(img, dir); err == nil {
			break
		}
		c.wait("CreateContainerConfigError", err.Error())
		c.say("Failed", "Error: %v", err)
		if !c.p.n.later(try, c.p.stopping) {
			return nil, errors.New("ended before its configuration was complete")
		}
	}
	if n := c.attempts(); len(n) > 2 { // this run and the one before stay
		for _, old := range n[:len(n)-2] {
			if err := shim.Remove(c.folder(old)); err != nil {
				c.p.n.log.Warn("remove an old run", "pod", c.p.name, "container", c.spec.Name, "error", err)
			}
		}
	}
	run, err := shim.Start(c.p.n.ctx, c.p.n.cfg.Shim, dir, spec)
	c.p.mu.Lock()
	c.imageID, c.id, c.runDir = img.ID, fmt.Sprintf("ebb://%s-%s-%d", c.p.uid, c.spec.Name, attempt), dir
	c.p.mu.Unlock()
	var failed *shim.Error
	if err != nil && !errors.As(err, &failed) {
		if c.p.n.ctx.Err() != nil {
			return nil, err
		}
		now := time.Now()
		err = &shim.Error{Reason: err.Error(), Exit: shim.Exit{Code: 128, Started: now, Finished: now}}
	}
	if err != nil {
		c.p.n.events.Eventf(c.p.object(), v1.EventTypeWarning, "Failed", "Error: %v", err)
		return nil, err
	}
	return run, nil
}

// image pulls until it has the image; the waiting reasons are a kubelet's.
func (c *container) image() (image.Image, error) {
	policy := image.Policy(c.spec.ImagePullPolicy)
	ctx, cancel := c.p.untilStopping()
	defer cancel()
	for backOff := firstBackOff; ; backOff = min(2*backOff, mostBackOff) {
		img, err := c.p.n.images.Get(ctx, c.spec.Image, policy, askedFor{c})
		if err == nil {
			return img, nil
		}
		if ctx.Err() != nil {
			return image.Image{}, errors.New("ended before its image was there")
		}
		reason, then := "ErrImagePull", "ImagePullBackOff"
		switch {
		case errors.Is(err, image.ErrInvalidName):
			reason, then = "InvalidImageName", "InvalidImageName"
		case errors.Is(err, image.ErrNeverPull):
			reason, then = "ErrImageNeverPull", "ErrImageNeverPull"
		}
		c.wait(reason, err.Error())
		c.p.n.events.Eventf(c.p.object(), v1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", c.spec.Image, err)
		// The reason of the first moment, then that it is waiting; the words stay.
		if c.p.n.later(time.Second, c.p.stopping) {
			c.wait(then, fmt.Sprintf("Back-off pulling image %q: %s: %v", c.spec.Image, reason, err))
		}
		if !c.p.n.later(backOff, c.p.stopping) {
			return image.Image{}, errors.New("ended before its image was there")
		}
	}
}

// imageVolume pulls the image of a volume and gives the folder of its files, which nobody
// may write to: it is shared by all who have the image.
func (c *container) imageVolume(s *v1.ImageVolumeSource) (string, error) {
	ctx, cancel := c.p.untilStopping()
	defer cancel()
	img, err := c.p.n.images.Get(ctx, s.Reference, image.Policy(s.PullPolicy), askedFor{c})
	if err != nil {
		return "", fmt.Errorf("pull image %q: %w", s.Reference, err)
	}
	return img.Rootfs, nil
}

// watch goes with one run from its start to its end.
func (c *container) watch(run *shim.Container, end <-chan struct{}) (shim.Exit, error) {
	ended := make(chan struct{})
	hasReady, hasStartup := c.spec.ReadinessProbe != nil, c.spec.StartupProbe != nil
	taken := c.adopted == run
	c.adopted = nil
	c.set(func() {
		c.current, c.ended, c.runDir = run, ended, run.Dir
		c.id = "ebb://" + string(c.p.uid) + "-" + c.spec.Name + "-" + filepath.Base(run.Dir)
		if c.state.Terminated != nil {
			c.last = c.state
		}
		c.restarts = attemptOf(run.Dir)
		c.state = v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(run.State.Started)}}
		if !taken {
			c.p.times.ran(run.State.Started)
			c.started, c.ready, c.notReady = !hasStartup, !hasStartup && !hasReady, ""
		}
		c.noteUp()
	})
	ctx, cancel := context.WithCancel(c.p.n.ctx)
	defer cancel()
	go c.probe(ctx, run)
	go func() { // the graceful end, whoever asks for it
		stopping := c.p.stopping
		if end != nil { // a sidecar ends after the others
			stopping = nil
		}
		select {
		case <-stopping:
			c.endWithGrace(ctx, run)
		case <-end:
			c.endWithGrace(ctx, run)
		case <-ctx.Done():
		}
	}()
	e, err := run.Wait(c.p.n.ctx)
	if c.p.n.ctx.Err() != nil {
		return e, c.p.n.ctx.Err()
	}
	if err != nil {
		c.p.n.log.Warn("how a container ended is not known", "pod", c.p.name, "container", c.spec.Name, "error", err)
		e = shim.Exit{Code: 137, Error: err.Error(), Started: run.State.Started, Finished: time.Now()}
	}
	close(ended)
	return e, nil
}

func attemptOf(dir string) int32 {
	n, _ := strconv.ParseInt(filepath.Base(dir), 10, 32)
	return int32(n)
}

// finish notes how a run ended.
func (c *container) finish(attempt int, e shim.Exit) {
	c.set(func() {
		if c.state.Terminated != nil {
			c.last = c.state
		}
		c.state = c.terminated(c.folder(attempt), e)
		c.restarts = int32(attempt) //nolint:gosec // a count of restarts
		c.current, c.ready, c.started = nil, false, false
	})
	c.p.n.log.Info("container ended", "pod", c.p.name, "container", c.spec.Name, "code", e.Code, "error", e.Error)
}
