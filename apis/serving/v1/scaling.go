package v1

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// ScalingLayers are the annotations that scale a Revision, a later layer winning: those
// its template had, its Configuration's, its Service's, and what was set on the Revision
// itself since. c and s are nil where there is none.
func ScalingLayers(rev *Revision, c *Configuration, s *Service) []settings.Layer {
	template, own := map[string]string{}, map[string]string{}
	made := templateScaling(rev.Annotations)
	for k, v := range rev.Annotations {
		if !isScaling(k) {
			continue
		}
		if was, ok := made[k]; ok && was == v {
			template[k] = v
		} else {
			own[k] = v
		}
	}
	layers := []settings.Layer{{Object: "template of Revision " + rev.Name, Annotations: template}}
	if c != nil {
		layers = append(layers, settings.Layer{Object: "Configuration " + c.Name, Annotations: c.Annotations})
	}
	if s != nil {
		layers = append(layers, settings.Layer{Object: "Service " + s.Name, Annotations: s.Annotations})
	}
	return append(layers, settings.Layer{Object: "Revision " + rev.Name, Annotations: own})
}

// ReadScalingLayers is ScalingLayers with what get reads: it gets an object of the
// Revision's namespace by name, and fails as a client does.
func ReadScalingLayers(rev *Revision, get func(name string, into metav1.Object) error) ([]settings.Layer, error) {
	c, s, err := readParents(rev, get)
	if err != nil {
		return nil, err
	}
	return ScalingLayers(rev, c, s), nil
}

// ReadScaled is Scaled with what get reads, as in ReadScalingLayers.
func ReadScaled(rev *Revision, get func(name string, into metav1.Object) error) (*Revision, error) {
	c, s, err := readParents(rev, get)
	if err != nil {
		return nil, err
	}
	return Scaled(rev, c, s), nil
}

func readParents(rev *Revision, get func(name string, into metav1.Object) error) (c *Configuration, s *Service, err error) {
	read := func(label string, into metav1.Object) (bool, error) {
		name := rev.Labels[label]
		if name == "" {
			return false, nil
		}
		err := get(name, into)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("revision %s/%s: read %T %s, which may scale it: %w", rev.Namespace, rev.Name, into, name, err)
		}
		return true, nil
	}
	c, s = &Configuration{}, &Service{}
	found, err := read(serving.ConfigurationLabel, c)
	if err != nil {
		return nil, nil, err
	}
	if !found {
		c = nil
	}
	if found, err = read(serving.ServiceLabel, s); err != nil {
		return nil, nil, err
	}
	if !found {
		s = nil
	}
	return c, s, nil
}

// Scaled is the Revision as if all that scales it stood in its own annotations: the
// Revision itself where nothing else has any.
func Scaled(rev *Revision, c *Configuration, s *Service) *Revision {
	inherits := c != nil && HasScaling(c.Annotations) || s != nil && HasScaling(s.Annotations)
	if !inherits {
		return rev
	}
	out := *rev
	out.Annotations = maps.Clone(rev.Annotations)
	maps.DeleteFunc(out.Annotations, func(k, _ string) bool { return isScaling(k) })
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	for _, key := range settings.AutoscalingKeys() {
		if v, ok := settings.Annotation(key, ScalingLayers(rev, c, s)...); ok {
			out.Annotations[key] = v
		}
	}
	return &out
}

// NoteTemplateScaling notes on a Revision that is about to be created which of its
// annotations are its template's, so that what is set on it later is known to be its own.
func NoteTemplateScaling(rev *Revision) {
	made := map[string]string{}
	for k, v := range rev.Annotations {
		if isScaling(k) {
			made[k] = v
		}
	}
	if len(made) == 0 {
		delete(rev.Annotations, serving.TemplateScalingAnnotation)
		return
	}
	text, _ := json.Marshal(made) // strings always encode
	rev.Annotations[serving.TemplateScalingAnnotation] = string(text)
}

// templateScaling is what NoteTemplateScaling noted; nothing where it cannot be read.
func templateScaling(annotations map[string]string) map[string]string {
	var made map[string]string
	if err := json.Unmarshal([]byte(annotations[serving.TemplateScalingAnnotation]), &made); err != nil {
		return nil
	}
	return made
}

// HasScaling says whether there is an annotation of the autoscaling group.
func HasScaling(annotations map[string]string) bool {
	for key := range annotations {
		if isScaling(key) {
			return true
		}
	}
	return false
}

// SameScaling says whether two objects' annotations scale alike.
func SameScaling(a, b map[string]string) bool {
	only := func(m map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			if isScaling(k) {
				out[k] = v
			}
		}
		return out
	}
	return maps.Equal(only(a), only(b))
}

// overruled warns of autoscaling annotations of a template that those of the object
// itself win over.
func overruled(own, template map[string]string) []string {
	var warnings []string
	for _, key := range settings.AutoscalingKeys() {
		mine, ok := settings.Annotation(key, settings.Layer{Annotations: own})
		other, both := settings.Annotation(key, settings.Layer{Annotations: template})
		if ok && both && mine != other {
			warnings = append(warnings, fmt.Sprintf("metadata.annotations[%s]: %q wins over %q in spec.template.metadata.annotations", key, mine, other))
		}
	}
	return warnings
}

func isScaling(key string) bool { return strings.HasPrefix(key, serving.AutoscalingGroup+"/") }
