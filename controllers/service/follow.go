package service

import (
	"context"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// unsettled is how long a Service waits before it shows what a child says on its way to
// True or False: children say several such things within a few milliseconds.
const unsettled = 50 * time.Millisecond

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// itself wakes a Service that somebody has changed, at once. When only its status is
// another, which is what this controller writes, a look a little later is enough: it is
// for a status that was written from an older one.
func itself() handler.EventHandler {
	key := func(o client.Object) reconcile.Request {
		return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { q.Add(key(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			was, is := e.ObjectOld, e.ObjectNew
			if was.GetUID() == is.GetUID() && was.GetGeneration() == is.GetGeneration() &&
				maps.Equal(was.GetLabels(), is.GetLabels()) && maps.Equal(was.GetAnnotations(), is.GetAnnotations()) {
				q.AddAfter(key(is), unsettled)
				return
			}
			q.Add(key(is))
		},
		DeleteFunc:  func(_ context.Context, e event.DeleteEvent, q queue) { q.Add(key(e.Object)) },
		GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) { q.Add(key(e.Object)) },
	}
}

// follow wakes the Service of a child: at once when the child is True or False or is
// gone, a little later when it is neither. status is of the child.
func follow(status func(client.Object) *v1.Status) handler.EventHandler {
	wake := func(o client.Object, gone bool, q queue) {
		owner := metav1.GetControllerOf(o)
		if owner == nil || owner.Kind != v1.KindService {
			return
		}
		request := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}}
		s := status(o)
		if !gone && (s.ObservedGeneration != o.GetGeneration() || s.Conditions.Get(v1.ConditionReady).IsUnknown()) {
			q.AddAfter(request, unsettled)
			return
		}
		q.Add(request)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { wake(e.Object, false, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if was := metav1.GetControllerOf(e.ObjectOld); was != nil && !metav1.IsControlledBy(e.ObjectNew, &metav1.ObjectMeta{UID: was.UID}) {
				wake(e.ObjectOld, true, q) // it is not that Service's any more
			}
			wake(e.ObjectNew, false, q)
		},
		DeleteFunc:  func(_ context.Context, e event.DeleteEvent, q queue) { wake(e.Object, true, q) },
		GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) { wake(e.Object, false, q) },
	}
}
