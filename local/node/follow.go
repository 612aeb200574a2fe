package node

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// source is a ConfigMap or a Secret in a volume.
type source struct{ resource, namespace, name string }

// sourcesOf are the objects that a volume's contents come from.
func sourcesOf(namespace string, s *v1.Volume) (all []source) {
	add := func(resource, name string) { all = append(all, source{resource, namespace, name}) }
	switch {
	case s.ConfigMap != nil:
		add("configmaps", s.ConfigMap.Name)
	case s.Secret != nil:
		add("secrets", s.Secret.SecretName)
	case s.Projected != nil:
		for _, s := range s.Projected.Sources {
			if s.ConfigMap != nil {
				add("configmaps", s.ConfigMap.Name)
			}
			if s.Secret != nil {
				add("secrets", s.Secret.Name)
			}
		}
	}
	return all
}

// followed are the objects in volumes: one watch each, however many pods have it.
type followed struct {
	n   *Node
	mu  sync.Mutex
	all map[source]*follower
}

type follower struct {
	pods map[*pod]bool
	stop context.CancelFunc
}

// add has the pod's volumes poked when the object changes.
func (f *followed) add(s source, p *pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.all[s]
	if w == nil {
		ctx, cancel := context.WithCancel(f.n.ctx)
		w = &follower{map[*pod]bool{}, cancel}
		f.all[s] = w
		f.n.work.Go(func() { f.watch(ctx, s) })
	}
	w.pods[p] = true
}

// drop forgets the pod, and ends the watches that were for it alone.
func (f *followed) drop(p *pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s, w := range f.all {
		if delete(w.pods, p); len(w.pods) == 0 {
			w.stop()
			delete(f.all, s)
		}
	}
}

func (f *followed) watch(ctx context.Context, s source) {
	changed := func(any) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if w := f.all[s]; w != nil {
			for p := range w.pods {
				p.volumes.changed()
			}
		}
	}
	object := runtime.Object(&v1.ConfigMap{})
	if s.resource == "secrets" {
		object = &v1.Secret{}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(f.n.client.CoreV1().RESTClient(), s.resource, s.namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, s.name)),
		ObjectType:    object,
		Transform: func(o any) (any, error) { // what is in it is read when it is written into a volume
			switch o := o.(type) {
			case *v1.ConfigMap:
				o.Data, o.BinaryData, o.ManagedFields = nil, nil, nil
			case *v1.Secret:
				o.Data, o.ManagedFields = nil, nil
			}
			return o, nil
		},
		Handler: cache.ResourceEventHandlerFuncs{AddFunc: changed, UpdateFunc: func(_, o any) { changed(o) }, DeleteFunc: changed},
	})
	informer.RunWithContext(ctx)
}

// changed says that a source of the volumes has changed.
func (v *volumes) changed() {
	select {
	case v.poke <- struct{}{}:
	default:
	}
}

// follow keeps a volume's contents up to date until the pod ends.
func (v *volumes) follow(s *v1.Volume) {
	v.mu.Lock()
	begin := !v.keeping
	v.keeping = true
	known := v.live[s.Name]
	v.live[s.Name] = true
	v.mu.Unlock()
	if !known { // before the first read, so that no change falls between
		for _, from := range sourcesOf(v.p.object().Namespace, s) {
			v.p.n.followed.add(from, v.p)
		}
	}
	if begin {
		v.p.n.work.Go(v.keep)
	}
}

// adopt follows the volumes that a pod has from an earlier node process.
func (v *volumes) adopt() {
	for _, c := range v.p.all() {
		for _, m := range c.spec.VolumeMounts {
			if s := v.find(m.Name); s != nil && hasContents(s) && v.p.n.iso.Mounts {
				v.follow(s)
			}
		}
	}
	v.changed()
}

// retryVolume is how long a volume that could not be brought up to date waits.
const retryVolume = 10 * time.Second

// keep brings the live volumes up to date whenever a source changes or a token is to be
// renewed. What is there stays while its source cannot be read.
func (v *volumes) keep() {
	defer v.p.n.followed.drop(v.p)
	retry := false
	for {
		var due <-chan time.Time
		switch t := v.renewal(); {
		case retry:
			due = time.After(retryVolume)
		case !t.IsZero():
			due = time.After(time.Until(t))
		}
		select {
		case <-v.p.stopping:
			return
		case <-v.p.n.ctx.Done():
			return
		case <-v.poke:
		case <-due:
		}
		retry = v.refresh() != nil
	}
}

func (v *volumes) refresh() (failed error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.live {
		s := v.find(name)
		if s == nil {
			continue
		}
		if err := v.write(s); err != nil && v.p.n.ctx.Err() == nil {
			failed = err
			v.p.n.log.Warn("bring a volume up to date", "pod", v.p.name, "volume", name, "error", err)
			v.p.n.events.Eventf(v.p.object(), v1.EventTypeWarning, "FailedMount", "volume %q is not brought up to date: %v", name, err)
		}
	}
	return failed
}
