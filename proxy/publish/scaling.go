package publish

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// scaled is the Revision with the autoscaling annotations of its Service and its
// Configuration: one of them decides whether the activator stays in the path.
func (p *Publisher) scaled(rev *v1.Revision) (*v1.Revision, error) {
	return v1.ReadScaled(rev, func(name string, into metav1.Object) error {
		return p.read(types.NamespacedName{Namespace: rev.Namespace, Name: name}, into.(client.Object))
	})
}

// scalingChanged translates the Revisions of a Service or Configuration anew when its
// autoscaling annotations are others.
func (p *Publisher) scalingChanged(label string) toolscache.ResourceEventHandler {
	changed := func(o client.Object) {
		var list v1.RevisionList
		err := p.opts.Cache.List(context.Background(), &list, client.InNamespace(o.GetNamespace()),
			client.MatchingLabels{label: o.GetName()}, client.UnsafeDisableDeepCopy)
		if err != nil {
			p.opts.Logger.Error("revisions whose scaling changed could not be listed", "of", client.ObjectKeyFromObject(o), "error", err)
		}
		for i := range list.Items {
			p.queue.Add(key{kind: revisionKey, name: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { // a Revision may be seen before the object that scales it
			if o := o.(client.Object); v1.HasScaling(o.GetAnnotations()) {
				changed(o)
			}
		},
		UpdateFunc: func(before, after any) {
			if after := after.(client.Object); !v1.SameScaling(before.(client.Object).GetAnnotations(), after.GetAnnotations()) {
				changed(after)
			}
		},
	}
}
