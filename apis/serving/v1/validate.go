package v1

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// Validate lists what is wrong with a Service that is about to be stored, with the
// paths of its fields, in a fixed order.
func (s *Service) Validate(st *settings.Settings) field.ErrorList {
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	errs := validateMeta(&s.ObjectMeta, meta)
	errs = append(errs, validateRouteMeta(&s.ObjectMeta, meta)...)
	errs = append(errs, validateScalingLayer(st, &s.ObjectMeta, &s.Spec.Template, meta)...)
	errs = append(errs, s.Spec.Template.validate(st, &s.ObjectMeta, spec.Child("template"))...)
	errs = append(errs, validateTraffic(s.Spec.Traffic, true, spec.Child("traffic"))...)
	return append(errs, validateHosts(st, &s.ObjectMeta, s.Spec.Traffic, meta, spec.Child("traffic"))...)
}

// Validate lists what is wrong with a Configuration that is about to be stored.
func (c *Configuration) Validate(st *settings.Settings) field.ErrorList {
	meta := field.NewPath("metadata")
	errs := validateMeta(&c.ObjectMeta, meta)
	errs = append(errs, validateScalingLayer(st, &c.ObjectMeta, &c.Spec.Template, meta)...)
	return append(errs, c.Spec.Template.validate(st, &c.ObjectMeta, field.NewPath("spec", "template"))...)
}

// Validate lists what is wrong with a Route that is about to be stored.
func (r *Route) Validate(st *settings.Settings) field.ErrorList {
	meta, traffic := field.NewPath("metadata"), field.NewPath("spec", "traffic")
	errs := validateMeta(&r.ObjectMeta, meta)
	errs = append(errs, validateRouteMeta(&r.ObjectMeta, meta)...)
	errs = append(errs, validateTraffic(r.Spec.Traffic, false, traffic)...)
	return append(errs, validateHosts(st, &r.ObjectMeta, r.Spec.Traffic, meta, traffic)...)
}

// Validate lists what is wrong with a Revision that is about to be created.
func (r *Revision) Validate(st *settings.Settings) field.ErrorList {
	meta := field.NewPath("metadata")
	errs := validateMeta(&r.ObjectMeta, meta)
	errs = append(errs, validateTemplateAnnotations(st, r.Spec.ContainerConcurrency, r.Annotations, meta.Child("annotations"))...)
	return append(errs, r.Spec.validate(st, field.NewPath("spec"))...)
}

// ValidateMeta lists what is wrong with the metadata of a Revision whose spec has not
// changed: its annotations may, and take effect at once.
func (r *Revision) ValidateMeta(st *settings.Settings) field.ErrorList {
	annotations := field.NewPath("metadata", "annotations")
	return append(validateTemplateAnnotations(st, r.Spec.ContainerConcurrency, r.Annotations, annotations), validatePaused(r.Annotations, annotations)...)
}

// ValidateUpdate says that a Revision's spec may not change, and names the field that did.
func (r *Revision) ValidateUpdate(old *Revision) field.ErrorList {
	if equality.Semantic.DeepEqual(old.Spec, r.Spec) {
		return nil
	}
	path := changed(field.NewPath("spec"), asJSON(old.Spec), asJSON(r.Spec))
	return field.ErrorList{field.Forbidden(path,
		"a Revision's spec never changes; change the template of its Service or Configuration, which makes a new Revision")}
}

// ValidateStamps says that the annotations which admission writes were changed by
// someone else. It compares what was stored with what is about to be.
func ValidateStamps(old, next map[string]string, specChanged bool) field.ErrorList {
	path := field.NewPath("metadata", "annotations")
	keys := []string{serving.CreatorAnnotation}
	if !specChanged {
		keys = append(keys, serving.LastModifierAnnotation)
	}
	var errs field.ErrorList
	for _, key := range keys {
		if was, ok := old[key]; ok && next[key] != was {
			errs = append(errs, field.Forbidden(path.Key(key), fmt.Sprintf("is written by admission and stays %q; take it out of the manifest", was)))
		}
	}
	return errs
}

// ValidateNameChange says that a template which names its Revision has changed under the
// same name, and names the field that did.
func (t *RevisionTemplateSpec) ValidateNameChange(old *RevisionTemplateSpec) field.ErrorList {
	if t.Name == "" || t.Name != old.Name || equality.Semantic.DeepEqual(old, t) {
		return nil
	}
	template := field.NewPath("spec", "template")
	return field.ErrorList{field.Invalid(template.Child("metadata", "name"), t.Name, fmt.Sprintf(
		"names the Revision made of the template as it was, and %s has changed; a Revision never changes: give another name, or none",
		changed(template, asJSON(old), asJSON(t))))}
}

// validateMeta checks that a name can be a label and a host name, and the annotations
// that all kinds have.
func validateMeta(meta *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	errs := validatePaused(meta.Annotations, path.Child("annotations"))
	if meta.Name == "" && meta.GenerateName != "" {
		for _, wrong := range apivalidation.NameIsDNS1035Label(meta.GenerateName, true) {
			errs = append(errs, field.Invalid(path.Child("generateName"), meta.GenerateName, wrong))
		}
		return errs
	}
	for _, wrong := range apivalidation.NameIsDNS1035Label(meta.Name, false) {
		return append(errs, field.Invalid(path.Child("name"), meta.Name, wrong))
	}
	return errs
}

func validatePaused(annotations map[string]string, path *field.Path) field.ErrorList {
	return oneOf(annotations, path, serving.PausedAnnotation, "true", "false")
}

// validateRouteMeta checks the labels and annotations that a Route, or the Service it
// is made from, understands.
func validateRouteMeta(meta *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	annotations := path.Child("annotations")
	if v, ok := meta.Labels[serving.VisibilityLabel]; ok && v != serving.VisibilityClusterLocal {
		errs = append(errs, field.NotSupported(path.Child("labels").Key(serving.VisibilityLabel), v, []string{serving.VisibilityClusterLocal}))
	}
	errs = append(errs, validateSeconds(meta.Annotations, annotations, serving.RolloutDurationAnnotation, serving.GroupName+"/rolloutDuration")...)
	errs = append(errs, oneOf(meta.Annotations, annotations, serving.RetryAnnotation, serving.RetryIdempotent)...)
	return append(errs, ValidateHostAnnotations(meta.Annotations, annotations)...)
}

// validateScalingLayer checks the autoscaling annotations of a Service or Configuration
// together with those of its template, over which they win. What is wrong with the
// template alone is reported there and not twice.
func validateScalingLayer(st *settings.Settings, meta *metav1.ObjectMeta, template *RevisionTemplateSpec, path *field.Path) field.ErrorList {
	errs := oneOf(meta.Annotations, path.Child("annotations"), serving.ConcurrencyAnnotation, serving.ConcurrencySoft)
	errs = append(errs, oneOf(meta.Annotations, path.Child("annotations"), serving.DryRunAnnotation, serving.DryRunEnabled, serving.DryRunStrict)...)
	if !HasScaling(meta.Annotations) {
		return errs
	}
	_, wrong := settings.ParseAutoscaling(st.Autoscaler, deref(template.Spec.ContainerConcurrency), template.Annotations, meta.Annotations)
	for _, w := range wrong {
		if v, here := meta.Annotations[w.Key]; here && v == w.Value {
			errs = append(errs, field.Invalid(path.Child("annotations").Key(w.Key), w.Value, w.Message))
		}
	}
	return errs
}

func (t *RevisionTemplateSpec) validate(st *settings.Settings, parent *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	meta := path.Child("metadata")
	var errs field.ErrorList
	if t.Name != "" {
		name := meta.Child("name")
		if wrong := apivalidation.NameIsDNS1035Label(t.Name, false); len(wrong) > 0 {
			errs = append(errs, field.Invalid(name, t.Name, wrong[0]))
		} else if prefix := parent.Name + "-"; parent.Name == "" || !strings.HasPrefix(t.Name, prefix) || t.Name == prefix {
			// The server names what has a generateName only after it was written.
			if parent.GenerateName != "" {
				errs = append(errs, field.Forbidden(name, "cannot be given together with metadata.generateName: it must begin with a name that is not known yet"))
			} else {
				errs = append(errs, field.Invalid(name, t.Name, fmt.Sprintf("must begin with %q: a Revision's name begins with that of its Configuration", prefix)))
			}
		}
	}
	if t.GenerateName != "" {
		if wrong := apivalidation.NameIsDNS1035Label(t.GenerateName, true); len(wrong) > 0 {
			errs = append(errs, field.Invalid(meta.Child("generateName"), t.GenerateName, wrong[0]))
		}
	}
	errs = append(errs, metavalidation.ValidateLabels(t.Labels, meta.Child("labels"))...)
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, meta.Child("annotations"))...)
	errs = append(errs, validateTemplateAnnotations(st, t.Spec.ContainerConcurrency, t.Annotations, meta.Child("annotations"))...)
	errs = append(errs, validatePaused(t.Annotations, meta.Child("annotations"))...)
	return append(errs, t.Spec.validate(st, path.Child("spec"))...)
}

func validateTemplateAnnotations(st *settings.Settings, concurrency *int64, annotations map[string]string, path *field.Path) field.ErrorList {
	_, wrong := settings.ParseAutoscaling(st.Autoscaler, deref(concurrency), annotations)
	var errs field.ErrorList
	for _, w := range wrong {
		errs = append(errs, field.Invalid(path.Key(w.Key), w.Value, w.Message))
	}
	errs = append(errs, validateSeconds(annotations, path, serving.ProgressDeadlineAnnotation, serving.GroupName+"/progressDeadline")...)
	return append(errs, oneOf(annotations, path, serving.ConcurrencyAnnotation, serving.ConcurrencySoft)...)
}

// validateSeconds checks annotations that are durations of whole seconds, 0 or more.
func validateSeconds(annotations map[string]string, path *field.Path, keys ...string) field.ErrorList {
	var errs field.ErrorList
	for _, key := range keys {
		v := annotations[key]
		if v == "" {
			continue
		}
		switch d, err := time.ParseDuration(v); {
		case err != nil:
			errs = append(errs, field.Invalid(path.Key(key), v, "is not a duration like 30s or 5m"))
		case d < 0 || d%time.Second != 0:
			errs = append(errs, field.Invalid(path.Key(key), v, "must be whole seconds, 0s or more"))
		}
	}
	return errs
}

func oneOf(annotations map[string]string, path *field.Path, key string, values ...string) field.ErrorList {
	if v, ok := annotations[key]; ok && !slices.Contains(values, v) {
		return field.ErrorList{field.NotSupported(path.Key(key), v, values)}
	}
	return nil
}

// Warnings lists what is odd and does no harm: autoscaling annotations that nobody
// reads. The paths are those of Validate.
func (s *Service) Warnings() []string {
	return slices.Concat(scalingWarnings("metadata.annotations", s.Annotations),
		scalingWarnings("spec.template.metadata.annotations", s.Spec.Template.Annotations),
		overruled(s.Annotations, s.Spec.Template.Annotations))
}

// Warnings lists what is odd and does no harm, as Service.Warnings does.
func (c *Configuration) Warnings() []string {
	return append(scalingWarnings("metadata.annotations", c.Annotations),
		scalingWarnings("spec.template.metadata.annotations", c.Spec.Template.Annotations)...)
}

// Warnings lists what is odd and does no harm, as Service.Warnings does.
func (r *Revision) Warnings() []string {
	return scalingWarnings("metadata.annotations", r.Annotations)
}

// Warnings is empty: a Route has nothing odd to say.
func (r *Route) Warnings() []string { return nil }

func scalingWarnings(path string, annotations map[string]string) []string {
	var warnings []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, serving.AutoscalingGroup+"/") {
			continue
		}
		known, like := settings.KnownAutoscaling(key)
		switch {
		case known:
		case like != "":
			warnings = append(warnings, fmt.Sprintf("%s[%s]: nothing reads this annotation; did you mean %q?", path, key, like))
		default:
			warnings = append(warnings, fmt.Sprintf("%s[%s]: nothing reads this annotation", path, key))
		}
	}
	return warnings
}

func deref(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}
