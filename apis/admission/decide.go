package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// review is a request, decoded.
type review struct {
	create bool
	user   string
	next   object
	old    object // nil on create
	// unknown are fields that the kind does not have and the stored object does not have either.
	unknown field.ErrorList
	// changed says that the spec is another than the stored one, or that there is none stored.
	changed bool
}

// read decodes a request. It returns nil where there is nothing to decide: a
// subresource, or an object that is being deleted.
func read(req *admissionv1.AdmissionRequest) (*review, error) {
	if req.SubResource != "" || (req.Operation != admissionv1.Create && req.Operation != admissionv1.Update) {
		return nil, nil
	}
	next, unknown, err := decode(req.Kind, req.Object.Raw)
	if err != nil {
		return nil, err
	}
	if next.GetNamespace() == "" {
		next.SetNamespace(req.Namespace)
	}
	if next.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	r := &review{create: req.Operation == admissionv1.Create, user: req.UserInfo.Username, next: next, unknown: unknown, changed: true}
	if r.create {
		return r, nil
	}
	var oldUnknown field.ErrorList
	if r.old, oldUnknown, err = decode(req.Kind, req.OldObject.Raw); err != nil {
		return nil, fmt.Errorf("the stored object: %w", err)
	}
	r.changed = !equality.Semantic.DeepEqual(specOf(r.old), specOf(r.next))
	if len(oldUnknown) > 0 && !r.changed {
		r.unknown = nil // it was stored so
	}
	return r, nil
}

// stamped says whether admission writes creator and lastModifier: not on what a
// controller makes from another object, which carries that object's, not on a claim, and not
// on the kinds of eventing.
func stamped(o object) bool {
	switch o.(type) {
	case *v1.Revision, *v1alpha1.ClusterDomainClaim, ofEventing:
		return false
	}
	return len(o.GetOwnerReferences()) == 0
}

// mutate fills in the defaults and the stamps of r.next, and returns the patch that
// makes them of what came.
func mutate(r *review, st *settings.Settings) ([]jsonpatch.Operation, error) {
	var patch []jsonpatch.Operation
	_, revision := r.next.(*v1.Revision)
	if r.create || (r.changed && !revision) {
		before := r.next.DeepCopyObject().(object)
		same := sameTemplate(r)
		r.next.SetDefaults(st)
		if same { // settings that came since make no Revision by a change of something else
			*anyTemplateOf(r.next) = *anyTemplateOf(before).DeepCopy()
		}
		if !equality.Semantic.DeepEqual(specOf(before), specOf(r.next)) {
			op, err := replace("/spec", specOf(r.next))
			if err != nil {
				return nil, err
			}
			patch = append(patch, op)
		}
		// A manifest that says less than what is stored may say the same.
		r.changed = r.create || !equality.Semantic.DeepEqual(specOf(r.old), specOf(r.next))
	}
	if !stamped(r.next) {
		return patch, nil
	}
	annotations := maps.Clone(r.next.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	stamp(r, annotations)
	if !maps.Equal(annotations, r.next.GetAnnotations()) {
		op, err := replace("/metadata/annotations", annotations)
		if err != nil {
			return nil, err
		}
		patch = append(patch, op)
		r.next.SetAnnotations(annotations)
	}
	return patch, nil
}

func stamp(r *review, annotations map[string]string) {
	if r.create {
		annotations[serving.CreatorAnnotation] = r.user
		annotations[serving.LastModifierAnnotation] = r.user
		return
	}
	// A manifest without them does not take them away.
	for _, key := range []string{serving.CreatorAnnotation, serving.LastModifierAnnotation} {
		if was, ok := r.old.GetAnnotations()[key]; ok {
			if _, given := annotations[key]; !given {
				annotations[key] = was
			}
		}
	}
	if r.changed {
		annotations[serving.LastModifierAnnotation] = r.user
	}
}

func replace(path string, value any) (jsonpatch.Operation, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return jsonpatch.Operation{}, fmt.Errorf("encode %s: %w", path, err)
	}
	// "add" replaces a member that is there.
	return jsonpatch.NewOperation("add", path, json.RawMessage(text)), nil
}

// validate lists what is wrong with r.next, which has its defaults.
func validate(r *review, st *settings.Settings) field.ErrorList {
	errs := r.unknown
	if revision, ok := r.next.(*v1.Revision); ok && !r.create {
		if r.changed {
			return append(errs, revision.ValidateUpdate(r.old.(*v1.Revision))...)
		}
		if !maps.Equal(r.old.GetAnnotations(), revision.Annotations) {
			errs = append(errs, revision.ValidateMeta(st)...)
		}
		return errs
	}
	if !r.create && stamped(r.next) {
		errs = append(errs, v1.ValidateStamps(r.old.GetAnnotations(), r.next.GetAnnotations(), r.changed)...)
	}
	if r.changed || !maps.Equal(r.old.GetLabels(), r.next.GetLabels()) || !maps.Equal(r.old.GetAnnotations(), r.next.GetAnnotations()) {
		found := r.next.Validate(st)
		if !r.create {
			found = append(found, validateNameChange(r)...)
			if guarded, ok := r.next.(interface {
				ValidateChange(old runtime.Object) field.ErrorList
			}); ok {
				found = append(found, guarded.ValidateChange(r.old)...)
			}
		}
		// What was admitted before stays; only what changed now counts.
		if !r.changed {
			found = without("spec", found)
		} else if sameTemplate(r) {
			found = without("spec.template", found)
		}
		errs = append(errs, found...)
	}
	return errs
}

// validateNameChange refuses a template that has changed under the name of its Revision.
func validateNameChange(r *review) field.ErrorList {
	switch next := r.next.(type) {
	case *v1.Service:
		return next.Spec.Template.ValidateNameChange(&r.old.(*v1.Service).Spec.Template)
	case *v1.Configuration:
		return next.Spec.Template.ValidateNameChange(&r.old.(*v1.Configuration).Spec.Template)
	}
	return nil
}

// without leaves out the errors of a field and of what is in it.
func without(at string, errs field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(errs, func(e *field.Error) bool {
		rest, in := strings.CutPrefix(e.Field, at)
		return in && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// sameTemplate says whether an update leaves the template of Revisions as it is stored.
func sameTemplate(r *review) bool {
	template := anyTemplateOf(r.next)
	return template != nil && !r.create && equality.Semantic.DeepEqual(anyTemplateOf(r.old), template)
}

// anyTemplateOf returns the template of a Service or a Configuration, and nil of anything else.
func anyTemplateOf(o object) *v1.RevisionTemplateSpec {
	switch o := o.(type) {
	case *v1.Service:
		return &o.Spec.Template
	case *v1.Configuration:
		return &o.Spec.Template
	}
	return nil
}
