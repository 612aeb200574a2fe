package apiserver

import (
	"context"
	"log/slog"
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"ebb.dev/ebb/eventing/event"
)

// Resource is one kind of objects.
type Resource struct {
	GVR              schema.GroupVersionResource
	APIVersion, Kind string
	Namespaced       bool
	Selector         string // of labels; "": all
}

// Source is one ApiServerSource.
type Source struct {
	UID, Namespace, Name string
	// Fingerprint is another where anything of what follows is.
	Fingerprint string

	Resources  []Resource
	Namespaces []string // one "": all
	// Whole sends the objects; otherwise references to them.
	Whole bool
	// Owned says whether an object that one of this kind controls is sent; both "": any object.
	OwnerAPIVersion, OwnerKind string
	// From is the events' source attribute.
	From       string
	Extensions map[string]string
	// Match says whether an event is sent.
	Match func(*event.Event) bool
	// Send sends an event; it returns when the sink has it, or an error when it gave up.
	Send func(context.Context, *event.Event) error

	// Client has the permissions of the service account.
	Client dynamic.Interface
	// Versions, by stream, are those up to which all was sent; of a source that was here before, its own are taken.
	Versions map[string]string
}

// Runner runs the streams of sources. Make it with NewRunner; it is safe for concurrent use.
type Runner struct {
	log *slog.Logger
	// changed is told of a source whose versions or problems are others. It does not block. It may be nil.
	changed func(namespace, name string)

	mu      sync.Mutex
	ctx     context.Context // nil before Run
	sources map[string]*source
	running sync.WaitGroup
}

type source struct {
	Source
	cancel context.CancelFunc

	mu       sync.Mutex
	versions map[string]string
	problems map[string]error
	synced   map[string]bool
	moved    bool // a version is another than State has said
}

// NewRunner makes a runner.
func NewRunner(log *slog.Logger, changed func(namespace, name string)) *Runner {
	return &Runner{log: log, changed: changed, sources: map[string]*source{}}
}

// Run runs streams until ctx ends, and returns when all have ended.
func (r *Runner) Run(ctx context.Context) {
	r.mu.Lock()
	r.ctx = ctx
	for _, s := range r.sources {
		r.start(s)
	}
	r.mu.Unlock()
	<-ctx.Done()
	r.running.Wait()
}

// Set adds a source or changes one; one with the same fingerprint goes on as it is.
func (r *Runner) Set(s Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	versions := maps.Clone(s.Versions)
	if old := r.sources[s.UID]; old != nil {
		if old.Fingerprint == s.Fingerprint {
			return
		}
		old.stop()
		versions, _, _ = old.state()
	}
	next := &source{Source: s, versions: versions, problems: map[string]error{}, synced: map[string]bool{}}
	if next.versions == nil {
		next.versions = map[string]string{}
	}
	r.sources[s.UID] = next
	if r.ctx != nil {
		r.start(next)
	}
}

// Remove ends the streams of a source.
func (r *Runner) Remove(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sources[uid]; s != nil {
		s.stop()
		delete(r.sources, uid)
	}
}

// State is up to which version each stream has sent all, what is wrong with streams, and whether all of them
// have begun; ok is false of a source that is not here.
func (r *Runner) State(uid string) (versions map[string]string, problems map[string]error, begun, ok bool) {
	r.mu.Lock()
	s := r.sources[uid]
	r.mu.Unlock()
	if s == nil {
		return nil, nil, false, false
	}
	versions, problems, begun = s.state()
	return versions, problems, begun, true
}

func (s *source) state() (versions map[string]string, problems map[string]error, begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = false
	return maps.Clone(s.versions), maps.Clone(s.problems), len(s.synced) == len(s.streams())
}

func (s *source) stop() {
	if s.cancel != nil {
		s.cancel()
	}
}

// streams lists what is watched, by name.
func (s *source) streams() map[string]stream {
	streams := map[string]stream{}
	for _, resource := range s.Resources {
		namespaces := s.Namespaces
		if !resource.Namespaced {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			one := stream{resource, namespace}
			streams[one.name()] = one
		}
	}
	return streams
}

func (r *Runner) start(s *source) {
	ctx, cancel := context.WithCancel(r.ctx)
	s.cancel = cancel
	for name, one := range s.streams() {
		r.running.Go(func() { r.follow(ctx, s, name, one) })
	}
}
