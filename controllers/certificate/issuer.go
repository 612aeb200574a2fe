package certificate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// ErrNotInstalled means that cert-manager's kinds are not there, or were not seen yet.
var ErrNotInstalled = errors.New("cert-manager is not installed: there is no kind Certificate of cert-manager.io/v1")

// fieldOwner begins the name of the field manager; each owner has one of its own, so that a shared
// Certificate keeps the references to all of its owners.
const fieldOwner = "ebb-certificate-"

// Issuer makes Certificates and knows what became of them. It is safe for concurrent use.
type Issuer struct {
	config   *rest.Config
	client   client.Client
	settings *settings.Store
	look     time.Duration // how often cert-manager is looked for while it is wanted and not there

	certificates atomic.Pointer[reader]
	lost         chan struct{} // cert-manager was there and is not any more

	mu     sync.Mutex
	queues map[string]*listener // by the kind of owner
}

type reader struct{ cache.Cache }

type listener struct {
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	all   func(context.Context) ([]reconcile.Request, error)
}

// Add makes an Issuer that runs with mgr.
func Add(mgr ctrl.Manager, store *settings.Store, look time.Duration) (*Issuer, error) {
	i := &Issuer{config: mgr.GetConfig(), client: mgr.GetClient(), settings: store, look: look, lost: make(chan struct{}, 1), queues: map[string]*listener{}}
	return i, mgr.Add(i)
}

// NeedLeaderElection is true, as for the controllers that use it.
func (*Issuer) NeedLeaderElection() bool { return true }

// Source wakes the controller of a kind of owner when one of its Certificates changed and, for all
// that the function lists, when cert-manager has been found.
func (i *Issuer) Source(kind string, all func(context.Context) ([]reconcile.Request, error)) source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.queues[kind] = &listener{queue, all}
		return nil
	})
}

// Start looks for cert-manager while it is wanted and then follows its Certificates, until it is taken away. It blocks.
func (i *Issuer) Start(ctx context.Context) error {
	changed := i.settings.Subscribe()
	tick := time.NewTicker(i.look)
	defer tick.Stop()
	for {
		if i.settings.Load().Network.ExternalDomainTLS == settings.Enabled {
			following, stop := context.WithCancel(ctx)
			err := i.find(following)
			if err == nil {
				select {
				case <-ctx.Done():
				case <-i.lost:
				}
			}
			stop()
			switch {
			case err == nil:
			case !errors.Is(err, ErrNotInstalled) && ctx.Err() == nil:
				ctrl.LoggerFrom(ctx).Error(err, "cert-manager could not be looked for; it is tried again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// find starts to follow Certificates if their kind is there.
func (i *Issuer) find(ctx context.Context) error {
	if err := i.installed(); err != nil {
		return err
	}
	made, err := labels.Parse(serving.CertificateLabel)
	if err != nil {
		return err
	}
	c, err := cache.New(i.config, cache.Options{DefaultLabelSelector: made, DefaultTransform: cache.TransformStripManagedFields()})
	if err != nil {
		return fmt.Errorf("watch Certificates: %w", err)
	}
	informer, err := c.GetInformer(ctx, empty())
	if err != nil {
		return fmt.Errorf("watch Certificates: %w", err)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: i.tell, UpdateFunc: func(_, o any) { i.tell(o) }, DeleteFunc: i.tell,
	}); err != nil {
		return err
	}
	go func() {
		if err := c.Start(ctx); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "the watch of Certificates ended")
		}
	}()
	if !c.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	i.certificates.Store(&reader{c})
	i.mu.Lock()
	defer i.mu.Unlock()
	for kind, l := range i.queues {
		requests, err := l.all(ctx)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cert-manager is there, but what wants it could not be listed", "kind", kind)
		}
		for _, request := range requests {
			l.queue.Add(request)
		}
	}
	return nil
}

// installed asks the API server for the kind; the error is ErrNotInstalled when it is not there.
func (i *Issuer) installed() error {
	d, err := discovery.NewDiscoveryClientForConfig(i.config)
	if err != nil {
		return err
	}
	resources, err := d.ServerResourcesForGroupVersion(Kind().GroupVersion().String())
	if apierrors.IsNotFound(err) {
		return ErrNotInstalled
	}
	if err != nil {
		return fmt.Errorf("discover %s: %w", Kind().GroupVersion(), err)
	}
	for j := range resources.APIResources {
		if resources.APIResources[j].Kind == Kind().Kind {
			return nil
		}
	}
	return ErrNotInstalled
}

func empty() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(Kind())
	return u
}

// tell wakes the owners of a Certificate.
func (i *Issuer) tell(o any) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, owner := range u.GetOwnerReferences() {
		if l := i.queues[owner.Kind]; l != nil {
			l.queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: u.GetNamespace(), Name: owner.Name}})
		}
	}
}

// Ensure makes the Certificates that an owner wants, deletes those that it alone had and does
// not want any more, and says what became of each, by name. It returns ErrNotInstalled where nothing is
// wanted of a cert-manager that is not there.
func (i *Issuer) Ensure(ctx context.Context, owner Owner, wants []Want) (map[string]State, error) {
	certificates := i.certificates.Load()
	if certificates == nil {
		if len(wants) == 0 {
			return nil, nil
		}
		return nil, ErrNotInstalled
	}
	issuer := i.settings.Load().CertManager.Issuer
	states := map[string]State{}
	for _, w := range wants {
		want, have := makeCertificate(owner, w, issuer), empty()
		err := certificates.Get(ctx, client.ObjectKeyFromObject(want), have)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read Certificate %s/%s: %w", owner.GetNamespace(), w.Name, err)
		}
		if err == nil && same(have, want) {
			states[w.Name] = stateOf(have)
			continue
		}
		options := []client.ApplyOption{client.FieldOwner(fieldOwner + string(owner.GetUID()))}
		if err == nil {
			options = append(options, client.ForceOwnership) // it was made here
		}
		err = i.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), options...)
		if (apierrors.IsNotFound(err) || meta.IsNoMatchError(err)) && errors.Is(i.installed(), ErrNotInstalled) {
			i.forget(certificates)
			return nil, ErrNotInstalled
		}
		if apierrors.IsConflict(err) && len(options) == 1 {
			states[w.Name] = State{Foreign: true, Message: fmt.Sprintf("Certificate %s exists and does not belong to Ebb; delete or rename it", w.Name)}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("apply Certificate %s/%s for %s %s: %w", owner.GetNamespace(), w.Name, owner.Kind.Kind, owner.GetName(), err)
		}
		states[w.Name] = stateOf(want) // as the API server answered
	}
	return states, i.prune(ctx, certificates, owner, wants)
}

// forget has Start look for cert-manager again: what was followed is gone with its kind.
func (i *Issuer) forget(certificates *reader) {
	if i.certificates.CompareAndSwap(certificates, nil) {
		i.lost <- struct{}{}
	}
}

// prune deletes what the owner alone had and does not want.
func (i *Issuer) prune(ctx context.Context, certificates *reader, owner Owner, wants []Want) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(Kind())
	if err := certificates.List(ctx, list, client.InNamespace(owner.GetNamespace())); err != nil {
		return fmt.Errorf("list Certificates of %s: %w", owner.GetNamespace(), err)
	}
	for j := range list.Items {
		have := &list.Items[j]
		wanted := slices.ContainsFunc(wants, func(w Want) bool { return w.Name == have.GetName() })
		if wanted || len(have.GetOwnerReferences()) != 1 || !ownedBy(have, owner.GetUID()) {
			continue
		}
		uid := have.GetUID()
		if err := i.client.Delete(ctx, have, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete Certificate %s/%s: %w", have.GetNamespace(), have.GetName(), err)
		}
	}
	return nil
}
