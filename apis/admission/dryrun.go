package admission

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// DryRun asks the API server whether it would take a pod of a Revision that is not
// stored. Its error is ErrNoAnswer where that could not be found out, else what the API
// server said.
type DryRun func(context.Context, *v1.Revision) error

// ErrNoAnswer is in the error of a DryRun that found nothing out.
var ErrNoAnswer = errors.New("the API server could not be asked")

// dryRunTimeout leaves room in timeoutSeconds for the rest.
const dryRunTimeout = 5 * time.Second

// tryPod asks with a DryRun where the settings or the object want that and the template
// is another than the stored one. Without an answer only a strict object is refused.
func tryPod(ctx context.Context, r *review, st *settings.Settings, ask DryRun) field.ErrorList {
	template := templateOf(r.next)
	mode := r.next.GetAnnotations()[serving.DryRunAnnotation]
	wanted := st.Features.DryRunAlways() || mode != "" && !st.Features.IsDisabled(settings.FeatureDryRun)
	if ask == nil || template == nil || !wanted {
		return nil
	}
	if !r.create && equality.Semantic.DeepEqual(templateOf(r.old), template) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dryRunTimeout)
	defer cancel()
	rev := &v1.Revision{ObjectMeta: metav1.ObjectMeta{
		Name: r.next.GetName(), Namespace: r.next.GetNamespace(), Labels: template.Labels, Annotations: template.Annotations,
	}, Spec: template.Spec}
	err := ask(ctx, rev)
	switch {
	case err == nil, errors.Is(err, ErrNoAnswer) && mode != serving.DryRunStrict:
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "template"), "a pod of it is not possible: "+err.Error())}
}

// templateOf returns the template to try, of what makes Revisions, and nil of anything else.
func templateOf(o object) *v1.RevisionTemplateSpec {
	if _, ok := o.(*v1.Configuration); ok && len(o.GetOwnerReferences()) > 0 {
		return nil // its Service's was tried
	}
	return anyTemplateOf(o)
}
