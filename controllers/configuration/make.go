package configuration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// revisionName is the name of the Revision for the Configuration's current generation:
// the template's own, or <configuration>-<generation of at least five digits>, where a
// hash takes the place of what of the Configuration's name does not fit a label.
func revisionName(c *v1.Configuration) string {
	if c.Spec.Template.Name != "" {
		return c.Spec.Template.Name
	}
	name, suffix := c.Name, fmt.Sprintf("-%05d", c.Generation)
	if len(name)+len(suffix) > validation.DNS1035LabelMaxLength {
		sum := sha256.Sum256([]byte(name))
		suffix = "-" + hex.EncodeToString(sum[:4]) + suffix
		name = strings.TrimRight(name[:validation.DNS1035LabelMaxLength-len(suffix)], "-")
	}
	return name + suffix
}

// makeRevision is the Revision for the Configuration's current generation.
func makeRevision(c *v1.Configuration, now time.Time) *v1.Revision {
	t := c.Spec.Template.DeepCopy()
	labels := map[string]string{}
	maps.Copy(labels, t.Labels)
	labels[serving.ConfigurationLabel] = c.Name
	labels[serving.ConfigurationUIDLabel] = string(c.UID)
	labels[serving.ConfigurationGenerationLabel] = strconv.FormatInt(c.Generation, 10)
	labels[serving.RoutingStateLabel] = serving.RoutingStatePending
	for _, label := range []string{serving.ServiceLabel, serving.ServiceUIDLabel} {
		if v := c.Labels[label]; v != "" {
			labels[label] = v
		}
	}
	annotations := map[string]string{}
	maps.Copy(annotations, t.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	annotations[serving.RoutingStateModifiedAnnotation] = now.UTC().Format(time.RFC3339)
	if who := c.Annotations[serving.LastModifierAnnotation]; who != "" {
		annotations[serving.CreatorAnnotation] = who
	}
	rev := &v1.Revision{
		ObjectMeta: metav1.ObjectMeta{
			Name: revisionName(c), Namespace: c.Namespace, Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, v1.GroupVersion.WithKind(v1.KindConfiguration))},
		},
		Spec: t.Spec,
	}
	v1.NoteTemplateScaling(rev)
	return rev
}

// madeFrom says whether the Revision of the wanted name is the one for the
// Configuration's current generation: made from it, or from an earlier one with the same
// content under the same name.
func madeFrom(rev *v1.Revision, c *v1.Configuration) bool {
	if !metav1.IsControlledBy(rev, c) {
		return false
	}
	if generation(rev) == c.Generation {
		return true
	}
	return c.Spec.Template.Name != "" && equality.Semantic.DeepEqual(rev.Spec, c.Spec.Template.Spec) &&
		subset(c.Spec.Template.Labels, rev.Labels) && subset(c.Spec.Template.Annotations, rev.Annotations)
}

// generation is the Configuration's generation a Revision was made from; 0 when it does not say.
func generation(rev *v1.Revision) int64 {
	n, err := strconv.ParseInt(rev.Labels[serving.ConfigurationGenerationLabel], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func subset(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
