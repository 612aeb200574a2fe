package revision

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// firstRetry and lastRetry bound the time between two tries to resolve a Revision's
// images, which doubles with each failure.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// resolver finds the digests of images, for a bounded number of Revisions at a time and
// away from the reconciler, and tells it of each answer by an event. It is safe for
// concurrent use.
type resolver struct {
	store    *settings.Store
	keychain func(ctx context.Context, rev *v1.Revision) (authn.Keychain, error)
	http     http.RoundTripper // nil means the default
	workers  int

	queue   workqueue.TypedRateLimitingInterface[types.UID]
	answers chan event.TypedGenericEvent[*v1.Revision]

	mu   sync.Mutex
	jobs map[types.UID]*job
}

// job is one Revision whose images are being resolved.
type job struct {
	rev     *v1.Revision
	digests map[string]string // by container name; nil until known
	err     error             // of the last try
}

func newResolver(store *settings.Store, workers int, keychain func(context.Context, *v1.Revision) (authn.Keychain, error)) *resolver {
	return &resolver{
		store: store, keychain: keychain, workers: workers,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](firstRetry, lastRetry),
			workqueue.TypedRateLimitingQueueConfig[types.UID]{Name: "revision-digests"}),
		answers: make(chan event.TypedGenericEvent[*v1.Revision]),
		jobs:    map[types.UID]*job{},
	}
}

// resolve returns the digests (image references) by the name of the container, or the
// error of the last try; neither when no answer is there yet: then an event comes with it.
func (r *resolver) resolve(rev *v1.Revision) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.jobs[rev.UID]
	if j == nil {
		j = &job{rev: rev.DeepCopy()}
		r.jobs[rev.UID] = j
		r.queue.Add(rev.UID)
	}
	return j.digests, j.err
}

// forget drops what is known of a Revision: it is settled, or gone.
func (r *resolver) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, uid)
}

// forgetNamed is forget for a Revision of which only the name is left.
func (r *resolver) forgetNamed(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, j := range r.jobs {
		if j.rev.Namespace == key.Namespace && j.rev.Name == key.Name {
			delete(r.jobs, uid)
		}
	}
}

// Start runs the workers until ctx ends.
func (r *resolver) Start(ctx context.Context) error {
	var running sync.WaitGroup
	for range r.workers {
		running.Go(func() {
			for r.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	r.queue.ShutDown()
	running.Wait()
	return nil
}

// NeedLeaderElection makes the workers run where the reconciler runs.
func (r *resolver) NeedLeaderElection() bool { return true }

func (r *resolver) next(ctx context.Context) bool {
	uid, down := r.queue.Get()
	if down {
		return false
	}
	defer r.queue.Done(uid)
	r.mu.Lock()
	j := r.jobs[uid]
	r.mu.Unlock()
	if j == nil {
		r.queue.Forget(uid)
		return true
	}
	digests, err := r.all(ctx, j.rev)
	r.mu.Lock()
	j.digests, j.err = digests, err
	r.mu.Unlock()
	if err != nil {
		r.queue.AddRateLimited(uid)
	} else {
		r.queue.Forget(uid)
	}
	select {
	case r.answers <- event.TypedGenericEvent[*v1.Revision]{Object: j.rev}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *resolver) all(ctx context.Context, rev *v1.Revision) (map[string]string, error) {
	s := r.store.Load()
	ctx, cancel := context.WithTimeout(ctx, s.Deployment.DigestResolutionTimeout)
	defer cancel()
	keychain, err := r.keychain(ctx, rev)
	if err != nil {
		return nil, err
	}
	digests, known := map[string]string{}, map[string]string{}
	for _, c := range append(rev.Spec.InitContainers[:len(rev.Spec.InitContainers):len(rev.Spec.InitContainers)], rev.Spec.Containers...) {
		digest, ok := known[c.Image]
		if !ok {
			if digest, err = r.digest(ctx, c.Image, s, keychain); err != nil {
				return nil, fmt.Errorf("Unable to fetch image %q of container %q: %w", c.Image, c.Name, err) //nolint:staticcheck // it becomes a condition's message, a sentence
			}
			known[c.Image] = digest
		}
		digests[c.Name] = digest
	}
	return digests, nil
}

// digest returns the image's reference by digest; "" where its registry is not to be asked.
func (r *resolver) digest(ctx context.Context, image string, s *settings.Settings, keychain authn.Keychain) (string, error) {
	if _, err := name.NewDigest(image); err == nil {
		return image, nil
	}
	tag, err := name.NewTag(image)
	if err != nil {
		return "", err
	}
	if s.Deployment.SkipsTagResolving(tag.RegistryStr()) {
		return "", nil
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain), remote.WithUserAgent("ebb")}
	if r.http != nil {
		options = append(options, remote.WithTransport(r.http))
	}
	if found, err := remote.Head(tag, options...); err == nil {
		return tag.Digest(found.Digest.String()).Name(), nil
	}
	// Not every registry answers HEAD, and only GET says what is wrong.
	found, err := remote.Get(tag, options...)
	if err != nil {
		return "", err
	}
	return tag.Digest(found.Digest.String()).Name(), nil
}
