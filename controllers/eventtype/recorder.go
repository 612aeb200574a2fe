package eventtype

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/apis/eventing/v1beta2"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/eventing/plan"
)

// Bounds of a Recorder.
const (
	maxSources = 8       // of one type that get an EventType of their own
	maxKnown   = 100_000 // types and sources that are remembered
	maxWaiting = 1000    // that wait to be written down
	maxText    = 1024    // bytes of a type or a source
)

// BrokerLabel is on an EventType that was made by itself; its value is the Broker's UID.
const BrokerLabel = "ebb.dev/broker"

type seen struct {
	address           plan.Address
	eventType, source string
}

type found struct {
	seen
	schema string
}

// Recorder writes down which events come to Brokers. Seen may be called from any goroutine.
type Recorder struct {
	client   client.Client
	settings *settings.Store

	mu      sync.RWMutex
	known   map[seen]struct{}
	waiting chan found
}

// NewRecorder makes a Recorder; it works while it runs with the manager, in every replica.
func NewRecorder(mgr ctrl.Manager, st *settings.Store) (*Recorder, error) {
	r := &Recorder{client: mgr.GetClient(), settings: st, known: map[seen]struct{}{}, waiting: make(chan found, maxWaiting)}
	if err := mgr.Add(r); err != nil {
		return nil, fmt.Errorf("add the recorder of event types: %w", err)
	}
	return r, nil
}

// NeedLeaderElection is false: every replica has events of its own.
func (*Recorder) NeedLeaderElection() bool { return false }

// Seen notes an event that a Broker has taken. It does not block.
func (r *Recorder) Seen(a plan.Address, eventType, source, schema string) {
	key := seen{a, eventType, source}
	r.mu.RLock()
	_, known := r.known[key]
	r.mu.RUnlock()
	if known || a.Kind != plan.Broker || len(eventType) > maxText || len(source) > maxText || r.settings.Load().Eventing.EventTypesMax == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[key]; known || len(r.known) >= maxKnown {
		return
	}
	// The strings may be parts of a whole request.
	f := found{seen{a, strings.Clone(eventType), strings.Clone(source)}, strings.Clone(schema)}
	select {
	case r.waiting <- f:
		r.known[f.seen] = struct{}{}
	default: // the next event of the type will do
	}
}

// Start writes down what was seen until ctx ends.
func (r *Recorder) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-r.waiting:
			if err := r.write(ctx, f); err != nil {
				ctrl.LoggerFrom(ctx).Info("an event type is not written down yet", "type", f.eventType, "broker", f.address.Namespace+"/"+f.address.Name, "error", err.Error())
				r.forget(f.seen)
			}
		}
	}
}

func (r *Recorder) forget(key seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, key)
}

// write makes the EventType unless there are enough.
func (r *Recorder) write(ctx context.Context, f found) error {
	b := &eventingv1.Broker{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: f.address.Namespace, Name: f.address.Name}, b)
	if apierrors.IsNotFound(err) || err == nil && b.DeletionTimestamp != nil {
		r.forget(f.seen)
		return nil
	} else if err != nil {
		return err
	}
	list := &v1beta2.EventTypeList{}
	if err := r.client.List(ctx, list, client.InNamespace(b.Namespace), client.MatchingLabels{BrokerLabel: string(b.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	sources := 0
	for i := range list.Items {
		if list.Items[i].Spec.Type == f.eventType {
			sources++
		}
	}
	if int64(len(list.Items)) >= r.settings.Load().Eventing.EventTypesMax || sources >= maxSources {
		return nil
	}
	err = r.client.Create(ctx, newEventType(b, f))
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// newEventType makes the EventType; its name follows from what it is, so that several replicas make one.
func newEventType(b *eventingv1.Broker, f found) *v1beta2.EventType {
	return &v1beta2.EventType{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: b.Namespace, Name: name(string(b.UID), f.eventType, f.source), Labels: map[string]string{BrokerLabel: string(b.UID)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(b, eventingv1.GroupVersion.WithKind(eventingv1.KindBroker))},
		},
		Spec: v1beta2.EventTypeSpec{
			Type: f.eventType, Source: f.source, Schema: f.schema, Description: "Made by itself: the Broker has taken such an event.",
			Reference: &duck.KReference{APIVersion: eventing.GroupName + "/v1", Kind: eventingv1.KindBroker, Namespace: b.Namespace, Name: b.Name},
		},
	}
}

func name(uid, eventType, source string) string {
	sum := sha256.Sum256([]byte(uid + "\x00" + eventType + "\x00" + source))
	begin := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, eventType)
	begin = strings.Trim(begin[:min(len(begin), 40)], "-")
	if begin == "" {
		begin = "type"
	}
	return begin + "-" + hex.EncodeToString(sum[:8])
}
