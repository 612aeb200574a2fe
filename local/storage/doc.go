// Package storage is the storage of the embedded default: what the scheduler and an external
// provisioner do for PersistentVolumeClaims elsewhere. A StorageClass of Provisioner gets each
// claim a folder under the node's data and a PersistentVolume that names it; when the claim has
// gone and the reclaim policy is Delete, the folder goes, then the object. Claims and volumes
// are bound to each other by Kubernetes' own controller.
//
// Pods come in by Missing, which says in words what their claims lack and does the scheduler's
// part of it, and by Source, which says where a claim's files are. local/node calls both for
// pods with claims, and for no others.
package storage

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	core "k8s.io/client-go/informers/core/v1"
	storageinformers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// Provisioner is the name that a StorageClass has this node's folders by.
const Provisioner = "ebb.dev/local"

// Config is what New needs.
type Config struct {
	Client kubernetes.Interface
	Events record.EventRecorder
	Node   string            // name of the Node object
	Labels map[string]string // its own, by which volumes are of this node
	Dir    string            // holds a folder for each volume, named like its object
	Logger *slog.Logger
}

// Storage follows claims, volumes and classes. Its methods may be called from several
// goroutines.
type Storage struct {
	cfg     Config
	node    *v1.Node // as affinities of volumes see it
	follow  []cache.SharedIndexInformer
	synced  []cache.InformerSynced
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	queue   workqueue.TypedRateLimitingInterface[key]

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

// key names a claim, or a volume where there is no namespace.
type key struct{ namespace, name string }

// New makes a Storage that follows nothing until Run.
func New(cfg Config) (*Storage, error) {
	s := &Storage{
		cfg:     cfg,
		node:    &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: cfg.Node, Labels: cfg.Labels}},
		queue:   workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[key](100*time.Millisecond, time.Minute)),
		changed: make(chan struct{}),
	}
	claims := core.NewPersistentVolumeClaimInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	volumes := core.NewPersistentVolumeInformer(cfg.Client, 0, cache.Indexers{})
	classes := storageinformers.NewStorageClassInformer(cfg.Client, 0, cache.Indexers{})
	s.claims, s.volumes = corelisters.NewPersistentVolumeClaimLister(claims.GetIndexer()), corelisters.NewPersistentVolumeLister(volumes.GetIndexer())
	s.classes = storagelisters.NewStorageClassLister(classes.GetIndexer())
	s.follow = []cache.SharedIndexInformer{claims, volumes, classes}
	for _, informer := range s.follow {
		if err := informer.SetTransform(trim); err != nil {
			return nil, err
		}
		registered, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: s.saw, UpdateFunc: func(_, o any) { s.saw(o) }, DeleteFunc: s.saw,
		})
		if err != nil {
			return nil, err
		}
		s.synced = append(s.synced, registered.HasSynced)
	}
	return s, nil
}

func trim(o any) (any, error) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return o, nil
}

// saw takes an event: there may be something to do, and who waits looks again.
func (s *Storage) saw(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	switch o := o.(type) {
	case *v1.PersistentVolumeClaim:
		s.queue.Add(key{o.Namespace, o.Name})
	case *v1.PersistentVolume:
		s.queue.Add(key{name: o.Name})
	case *storagev1.StorageClass:
		waiting, err := s.claims.List(labels.Everything())
		if err != nil {
			s.cfg.Logger.Warn("list claims", "error", err)
		}
		for _, c := range waiting {
			if c.Spec.VolumeName == "" {
				s.queue.Add(key{c.Namespace, c.Name})
			}
		}
	}
	s.Poke()
}

// Changed closes at the next change of anything that Missing looks at, or at the next Poke.
func (s *Storage) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Poke has everybody who waits look again.
func (s *Storage) Poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Run follows and provisions until the context ends.
func (s *Storage) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	for _, informer := range s.follow {
		work.Go(func() { informer.RunWithContext(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return ctx.Err()
	}
	work.Go(func() {
		<-ctx.Done()
		s.queue.ShutDown()
	})
	for k, over := s.queue.Get(); !over; k, over = s.queue.Get() {
		if err := s.sync(ctx, k); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("storage", "namespace", k.namespace, "name", k.name, "error", err)
			s.queue.AddRateLimited(k)
		} else {
			s.queue.Forget(k)
		}
		s.queue.Done(k)
	}
	return nil
}

func (s *Storage) sync(ctx context.Context, k key) error {
	if k.namespace == "" {
		return s.reclaim(ctx, k.name)
	}
	return s.provision(ctx, k.namespace, k.name)
}

// ready waits until all is known that there is.
func (s *Storage) ready(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return fmt.Errorf("claims are not known yet: %w", context.Cause(ctx))
	}
	return nil
}
