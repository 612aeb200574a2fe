package node

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"ebb.dev/ebb/local/shim"
	"ebb.dev/ebb/local/storage"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod is one pod of this node. Fields under mu are read by the status writer
// and written by the containers' goroutines.
type pod struct {
	n    *Node
	uid  types.UID
	name string // namespace/name
	dir  string

	// stopping closes when the pod is to end: nothing is started any more.
	stopping chan struct{}
	dirty    chan struct{} // capacity 1: the status is to be written
	bound    chan struct{} // closed when the pod is this node's

	mu       sync.Mutex
	obj      *v1.Pod // newest seen
	port     int
	annot    bool // the annotation has the port
	inits    []*container
	mains    []*container
	deadline time.Time // for the graceful end
	stopped  bool      // stopping is closed
	vanished bool      // the object has gone
	failure  string    // why the pod as a whole cannot run
	times    startTimes
	sooner   chan struct{}

	claims  map[string]bool // names of those that it has; under the node's mu
	volumes *volumes
}

// onDisk is what a new node process must know besides the containers' folders.
type onDisk struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	Port      int       `json:"port"`
}

const podFile = "pod.json"

func newPod(n *Node, o *v1.Pod) *pod {
	p := &pod{
		n: n, uid: o.UID, name: o.Namespace + "/" + o.Name, dir: filepath.Join(n.cfg.Data, "pods", string(o.UID)),
		stopping: make(chan struct{}), dirty: make(chan struct{}, 1), bound: make(chan struct{}), sooner: make(chan struct{}), obj: o,
	}
	p.volumes = newVolumes(p)
	for i := range o.Spec.InitContainers {
		p.inits = append(p.inits, newContainer(p, &o.Spec.InitContainers[i], true))
	}
	for i := range o.Spec.Containers {
		p.mains = append(p.mains, newContainer(p, &o.Spec.Containers[i], false))
	}
	return p
}

func (p *pod) all() []*container { return append(append([]*container(nil), p.inits...), p.mains...) }

func (p *pod) object() *v1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.obj
}

func (p *pod) portNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.port
}

// touch says that the status has changed.
func (p *pod) touch() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// update takes a newer object: what may change is that the pod is to end.
func (p *pod) update(o *v1.Pod) {
	p.mu.Lock()
	before := p.obj
	p.obj = o
	p.mu.Unlock()
	if !maps.Equal(before.Labels, o.Labels) || !maps.Equal(before.Annotations, o.Annotations) {
		p.volumes.changed() // the downward API has them
	}
	if o.DeletionTimestamp != nil {
		grace := int64(30)
		if g := o.DeletionGracePeriodSeconds; g != nil {
			grace = *g
		}
		p.stop(time.Duration(grace) * time.Second)
	}
}

func (p *pod) forget() {
	p.mu.Lock()
	p.vanished = true
	p.mu.Unlock()
	p.stop(0)
}

// stop begins the end of the pod, or brings it nearer.
func (p *pod) stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now().Add(grace)
	if !p.stopped {
		p.stopped, p.deadline = true, at
		close(p.stopping)
	} else if at.Before(p.deadline.Add(-500 * time.Millisecond)) {
		p.deadline = at
		close(p.sooner)
		p.sooner = make(chan struct{})
	}
}

// untilStopping is a context that ends when the pod is to end, or the node does.
func (p *pod) untilStopping() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(p.n.ctx)
	go func() {
		select {
		case <-p.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// end gives when everything must be over, and a channel that closes when that changes.
func (p *pod) end() (time.Time, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deadline, p.sooner
}

// run is the life of the pod on this node.
func (p *pod) run() {
	defer p.n.drop(p)
	o := p.object()
	if o.DeletionTimestamp != nil {
		p.update(o)
	}
	if storage.HasClaims(o) && !p.awaitClaims() {
		return
	}
	adopted := p.restore()
	if !adopted {
		p.mu.Lock()
		p.times.Created = time.Now()
		p.mu.Unlock()
	}
	if err := p.prepare(); err != nil {
		p.mu.Lock()
		p.failure = err.Error()
		p.mu.Unlock()
	}
	if o.Spec.NodeName == "" {
		p.mu.Lock()
		p.annot = p.port != 0
		p.mu.Unlock()
		p.n.work.Go(func() { // while the containers start already
			if err := p.n.bind(p, o); err != nil {
				p.n.log.Info("pod is not for this node", "pod", p.name, "error", err)
				p.forget()
			} else {
				p.mu.Lock()
				p.times.Scheduled = time.Now()
				p.mu.Unlock()
			}
			close(p.bound)
		})
	} else {
		close(p.bound)
		p.mu.Lock()
		p.annot = o.Annotations[PortAnnotation] == strconv.Itoa(p.port)
		p.mu.Unlock()
	}
	done := make(chan struct{})
	written := make(chan struct{})
	p.n.work.Go(func() { defer close(written); p.writeStatus(done) })
	if adopted {
		p.volumes.adopt()
		p.touch()
	} else {
		// A pod that starts in a moment says so once, not twice.
		t := time.AfterFunc(150*time.Millisecond, p.touch)
		defer t.Stop()
	}
	p.runContainers()
	close(done)
	<-written
	if p.n.ctx.Err() != nil {
		return // the node ends, the pod goes on
	}
	p.mu.Lock()
	ending, vanished := p.stopped, p.vanished
	p.mu.Unlock()
	if !ending { // it has finished by itself; its object stays
		p.leaveClaims()
		select {
		case <-p.stopping:
		case <-p.n.ctx.Done():
			return
		}
		p.mu.Lock()
		vanished = p.vanished
		p.mu.Unlock()
	}
	p.remove(vanished)
}

// remove deletes the pod's files and, at last, its object.
func (p *pod) remove(vanished bool) {
	if err := removePod(p.dir); err != nil {
		p.n.log.Warn("remove a pod's files", "pod", p.name, "error", err)
	}
	p.n.ports.release(p.portNow())
	o := p.object()
	for wait := 100 * time.Millisecond; !vanished; wait = min(2*wait, 10*time.Second) {
		zero := int64(0)
		err := p.n.client.CoreV1().Pods(o.Namespace).Delete(p.n.ctx, o.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.uid}})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		p.n.log.Warn("remove the pod's object", "pod", p.name, "error", err)
		if !p.n.later(wait, nil) {
			return
		}
	}
}

// prepare chooses the port and makes the pod's folder.
func (p *pod) prepare() error {
	o := p.object()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.port == 0 {
		port, err := p.n.ports.take()
		if err != nil {
			return err
		}
		p.port = port
	}
	return p.save(o)
}

func (p *pod) save(o *v1.Pod) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(onDisk{o.Namespace, o.Name, o.UID, p.port})
	if err != nil {
		return err
	}
	tmp := filepath.Join(p.dir, "."+podFile)
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(p.dir, podFile))
}

func readPod(dir string) (d onDisk, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, podFile))
	return d, err == nil && json.Unmarshal(b, &d) == nil
}

// keepPorts marks the ports of all pods on disk, before a new pod can get one.
func (n *Node) keepPorts() {
	dirs, _ := filepath.Glob(filepath.Join(n.cfg.Data, "pods", "*"))
	for _, dir := range dirs {
		if d, ok := readPod(dir); ok && d.Port != 0 && !n.ports.keep(d.Port) {
			n.log.Error("two pods on disk have the same port", "port", d.Port, "dir", dir)
		}
	}
}

// changePort gives the pod another port when somebody else listens on its own.
func (p *pod) changePort() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if free(p.port) {
		return nil
	}
	port, err := p.n.ports.take()
	if err != nil {
		return err
	}
	p.n.log.Warn("somebody else listens on a pod's port", "pod", p.name, "port", p.port, "instead", port)
	p.n.ports.release(p.port)
	p.port, p.annot = port, false
	return p.save(p.obj)
}

// restore finds what an earlier node process has left of this pod.
func (p *pod) restore() bool {
	d, ok := readPod(p.dir)
	if !ok || d.UID != p.uid {
		return false
	}
	p.mu.Lock()
	p.port = d.Port // kept for it since the start, see keepPorts
	p.mu.Unlock()
	any := false
	for _, c := range p.all() {
		any = c.restore() || any
	}
	return any
}

// runContainers runs the init containers one after the other and then the others
// together, and returns when all have ended for good or the node ends. A sidecar is up
// before what comes after it begins, and is asked to end when that has ended.
func (p *pod) runContainers() {
	p.mu.Lock()
	failed := p.failure != ""
	p.mu.Unlock()
	if failed {
		p.touch()
		select {
		case <-p.stopping:
		case <-p.n.ctx.Done():
		}
		return
	}
	var g sync.WaitGroup
	var endSidecars []func() // each ends one and waits for its end
	ok := true
	for _, c := range p.inits {
		if c.sidecar() {
			end, over := make(chan struct{}), make(chan struct{})
			go func() { defer close(over); c.run(end) }()
			endSidecars = append(endSidecars, func() { close(end); <-over })
			select {
			case <-c.up: // what comes next may use it
			case <-p.stopping:
			case <-p.n.ctx.Done():
			}
			continue
		}
		if ok = c.run(nil); !ok {
			break
		}
	}
	if ok {
		p.mu.Lock()
		p.touch()
		p.mu.Unlock()
		for _, c := range p.mains {
			g.Go(func() { c.run(nil) })
		}
	}
	g.Wait()
	for _, end := range slices.Backward(endSidecars) {
		end()
	}
}

// removeStrangers ends what the folder still has of pods that are no more.
func (n *Node) removeStrangers() {
	list, err := os.ReadDir(filepath.Join(n.cfg.Data, "pods"))
	if err != nil {
		n.log.Warn("look for left-over pods", "error", err)
		return
	}
	for _, e := range list {
		n.mu.Lock()
		known := n.pods[types.UID(e.Name())] != nil
		n.mu.Unlock()
		if known {
			continue
		}
		dir := filepath.Join(n.cfg.Data, "pods", e.Name())
		n.log.Info("removing a left-over pod", "dir", dir)
		d, _ := readPod(dir)
		_, err := killPod(n.ctx, dir)
		if err == nil {
			err = removePod(dir)
		}
		if err != nil {
			n.log.Warn("remove a left-over pod", "dir", dir, "error", err)
			continue
		}
		n.ports.release(d.Port)
	}
}

// runs lists the folders of all runs of all containers of a pod's folder.
func runs(dir string) []string {
	f, _ := filepath.Glob(filepath.Join(dir, "containers", "*", "*"))
	return f
}

// killPod ends what runs of a pod's folder and tells how many containers that were.
func killPod(ctx context.Context, dir string) (n int, err error) {
	var errs []error
	for _, r := range runs(dir) {
		c, running, err := shim.Adopt(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if running {
			n++
			if err := c.Kill(); err != nil {
				errs = append(errs, err)
				continue
			}
			if _, err := c.Wait(ctx); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return n, errors.Join(errs...)
}

func removePod(dir string) error {
	for _, r := range runs(dir) {
		if err := errors.Join(closeGroups(r), shim.Remove(r)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
