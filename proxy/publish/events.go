package publish

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// events hands on the names of objects of one kind to a reader that may be slow: a name that is
// waiting is not added again, so what waits is bounded by the number of objects and
// adding never blocks.
type events struct {
	out  chan event.GenericEvent
	make func(metav1.ObjectMeta) client.Object

	mu      sync.Mutex
	waiting map[types.NamespacedName]bool
	wake    chan struct{}
}

func newEvents(object func(metav1.ObjectMeta) client.Object) *events {
	return &events{
		make:    object,
		out:     make(chan event.GenericEvent),
		waiting: map[types.NamespacedName]bool{},
		wake:    make(chan struct{}, 1),
	}
}

func (e *events) add(name types.NamespacedName) {
	e.mu.Lock()
	e.waiting[name] = true
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		e.mu.Lock()
		batch := e.waiting
		e.waiting = map[types.NamespacedName]bool{}
		e.mu.Unlock()
		for name := range batch {
			object := e.make(metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name})
			select {
			case <-ctx.Done():
				return
			case e.out <- event.GenericEvent{Object: object}:
			}
		}
	}
}
