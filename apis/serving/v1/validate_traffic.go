package v1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/settings"
)

// maxTargets bounds the targets of one Route.
const maxTargets = 1000

// validateTraffic checks the targets of a Route (inService false) or of a Service,
// whose targets refer to its own Configuration.
func validateTraffic(traffic []TrafficTarget, inService bool, path *field.Path) field.ErrorList {
	if len(traffic) == 0 {
		return field.ErrorList{field.Required(path, "name at least one target; their percents sum to 100")}
	}
	if len(traffic) > maxTargets {
		return field.ErrorList{field.TooMany(path, len(traffic), maxTargets)}
	}
	var errs field.ErrorList
	var sum int64
	tags := map[string]int{}
	for i := range traffic {
		t, at := &traffic[i], path.Index(i)
		errs = append(errs, t.validateReference(inService, at)...)
		if t.Percent != nil {
			if *t.Percent < 0 || *t.Percent > 100 {
				errs = append(errs, field.Invalid(at.Child("percent"), *t.Percent, "must be 0..100"))
			}
			sum += *t.Percent
		}
		if t.URL != "" {
			errs = append(errs, field.Forbidden(at.Child("url"), "is shown in the status and cannot be set"))
		}
		if t.Tag == "" {
			continue
		}
		if wrong := validation.IsDNS1035Label(t.Tag); len(wrong) > 0 {
			errs = append(errs, field.Invalid(at.Child("tag"), t.Tag, wrong[0]))
		}
		if first, ok := tags[t.Tag]; ok {
			errs = append(errs, field.Invalid(at.Child("tag"), t.Tag, fmt.Sprintf("is the tag of %s too; a tag is for one target", path.Index(first))))
		} else {
			tags[t.Tag] = i
		}
	}
	if sum != 100 {
		errs = append(errs, field.Invalid(path, sum, fmt.Sprintf("the percents sum to %d and must sum to 100", sum)))
	}
	return errs
}

func (t *TrafficTarget) validateReference(inService bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	name := func(child, value string) {
		if wrong := validation.IsDNS1035Label(value); len(wrong) > 0 {
			errs = append(errs, field.Invalid(path.Child(child), value, wrong[0]))
		}
	}
	switch {
	case inService && t.ConfigurationName != "":
		errs = append(errs, field.Forbidden(path.Child("configurationName"), "a Service's traffic goes to its own Revisions; use latestRevision: true or revisionName"))
	case t.RevisionName != "" && t.ConfigurationName != "":
		errs = append(errs, field.Forbidden(path.Child("configurationName"), "give either revisionName or configurationName"))
	case t.RevisionName != "":
		name("revisionName", t.RevisionName)
	case t.ConfigurationName != "":
		name("configurationName", t.ConfigurationName)
	case !inService:
		errs = append(errs, field.Required(path, "give revisionName or configurationName"))
	}
	if t.LatestRevision != nil {
		switch {
		case *t.LatestRevision && t.RevisionName != "":
			errs = append(errs, field.Invalid(path.Child("latestRevision"), true, fmt.Sprintf("contradicts revisionName %q; give one of them", t.RevisionName)))
		case !*t.LatestRevision && t.RevisionName == "":
			errs = append(errs, field.Invalid(path.Child("latestRevision"), false, "needs a revisionName"))
		}
	}
	return errs
}

// validateHosts checks that the host names which the settings give this Route and its
// tags are host names.
func validateHosts(st *settings.Settings, meta *metav1.ObjectMeta, traffic []TrafficTarget, metaPath, trafficPath *field.Path) field.ErrorList {
	if meta.Name == "" || len(traffic) > maxTargets {
		return nil
	}
	route := settings.RouteName{Name: meta.Name, Namespace: meta.Namespace, Labels: meta.Labels, Annotations: meta.Annotations}
	if _, err := st.Host(route); err != nil {
		return field.ErrorList{field.Invalid(metaPath.Child("name"), meta.Name, err.Error())}
	}
	var errs field.ErrorList
	for i := range traffic {
		tag := traffic[i].Tag
		if tag == "" || len(validation.IsDNS1035Label(tag)) > 0 {
			continue
		}
		if _, err := st.TagHost(tag, route); err != nil {
			errs = append(errs, field.Invalid(trafficPath.Index(i).Child("tag"), tag, err.Error()))
		} else if tagged := tag + "-" + meta.Name; len(tagged) > validation.DNS1035LabelMaxLength {
			errs = append(errs, field.Invalid(trafficPath.Index(i).Child("tag"), tag,
				fmt.Sprintf("with the name it is %q, which is longer than %d characters", tagged, validation.DNS1035LabelMaxLength)))
		}
	}
	return errs
}
