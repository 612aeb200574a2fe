package revision

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
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

// lanesAtOnce is how many registries may be as busy as one registry may be, all together.
const lanesAtOnce = 32

// resolver finds the digests of images away from the reconciler, and tells it of each
// answer by an event. Each registry is asked for a bounded number of Revisions at a
// time, in a lane of its own, so that one which hangs keeps nobody waiting but its own
// Revisions. It is safe for concurrent use.
type resolver struct {
	store    *settings.Store
	keychain func(ctx context.Context, rev *v1.Revision) (authn.Keychain, error)
	http     http.RoundTripper // nil means the default
	perLane  int               // Revisions at a time
	slots    chan struct{}     // bounds them over all lanes

	queue   workqueue.TypedRateLimitingInterface[types.UID]
	answers chan event.TypedGenericEvent[*v1.Revision]

	mu    sync.Mutex
	jobs  map[types.UID]*job
	lanes map[string]*lane // those with work
}

// job is one Revision whose images are being resolved.
type job struct {
	rev     *v1.Revision
	lane    string
	digests map[string]string // by container name; nil until known
	err     error             // of the last try
}

// lane is what goes to one registry, or to one set of them.
type lane struct {
	running int
	waiting []types.UID
}

// newResolver returns one that asks each registry for perLane Revisions at a time.
func newResolver(store *settings.Store, perLane int, keychain func(context.Context, *v1.Revision) (authn.Keychain, error)) *resolver {
	return &resolver{
		store: store, keychain: keychain, perLane: perLane, slots: make(chan struct{}, lanesAtOnce*perLane),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](firstRetry, lastRetry),
			workqueue.TypedRateLimitingQueueConfig[types.UID]{Name: "revision-digests"}),
		answers: make(chan event.TypedGenericEvent[*v1.Revision]),
		jobs:    map[types.UID]*job{},
		lanes:   map[string]*lane{},
	}
}

// resolve returns the digests (image references) by the name of the container, or the
// error of the last try; neither when no answer is there yet: then an event comes with it.
// An error that is unavailable says nothing about the image.
func (r *resolver) resolve(rev *v1.Revision) (map[string]string, error) {
	if known, all := withoutRegistry(rev, r.store.Load()); all {
		return known, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.jobs[rev.UID]
	if j == nil {
		j = &job{rev: rev.DeepCopy(), lane: laneOf(rev)}
		r.jobs[rev.UID] = j
		r.queue.Add(rev.UID)
	}
	return j.digests, j.err
}

// laneOf names the registries of a Revision's images.
func laneOf(rev *v1.Revision) string {
	var hosts []string
	for _, c := range allContainers(rev) {
		if tag, err := name.NewTag(c.Image); err == nil {
			hosts = append(hosts, tag.RegistryStr())
		}
	}
	slices.Sort(hosts)
	return strings.Join(slices.Compact(hosts), " ")
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

// Start works until ctx ends.
func (r *resolver) Start(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			uid, down := r.queue.Get()
			if down {
				return
			}
			if !r.dispatch(ctx, uid, &running) {
				return
			}
		}
	})
	<-ctx.Done()
	r.queue.ShutDown()
	running.Wait()
	return nil
}

// NeedLeaderElection makes it work where the reconciler runs.
func (r *resolver) NeedLeaderElection() bool { return true }

// dispatch gives a Revision to its lane: at once where the lane has room, else behind the
// others there. It returns false when ctx has ended.
func (r *resolver) dispatch(ctx context.Context, uid types.UID, running *sync.WaitGroup) bool {
	key, start := r.enter(uid)
	if !start {
		return true
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	running.Go(func() {
		defer func() { <-r.slots }()
		for more := true; more; {
			if !r.answer(ctx, uid) {
				return
			}
			uid, more = r.leave(key)
		}
	})
	return true
}

// enter notes a Revision in its lane and says whether work on it may begin.
func (r *resolver) enter(uid types.UID) (key string, start bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.jobs[uid]
	if j == nil {
		r.queue.Forget(uid)
		r.queue.Done(uid)
		return "", false
	}
	l := r.lanes[j.lane]
	if l == nil {
		l = &lane{}
		r.lanes[j.lane] = l
	}
	if l.running == r.perLane {
		l.waiting = append(l.waiting, uid)
		return "", false
	}
	l.running++
	return j.lane, true
}

// leave returns the next Revision of a lane; false when there is none and one less runs there.
func (r *resolver) leave(key string) (types.UID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[key]
	if len(l.waiting) > 0 {
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		return next, true
	}
	if l.running--; l.running == 0 {
		delete(r.lanes, key)
	}
	return "", false
}

// answer asks for one Revision and tells of the answer. It returns false when ctx has ended.
func (r *resolver) answer(ctx context.Context, uid types.UID) bool {
	defer r.queue.Done(uid)
	r.mu.Lock()
	j := r.jobs[uid]
	r.mu.Unlock()
	if j == nil { // forgotten since
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
