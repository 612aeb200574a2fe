package sinkbinding

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	sinks "ebb.dev/ebb/controllers/source"
)

// paths of pod specs; that of a CronJob is deeper.
var paths = [][]string{{"spec", "jobTemplate", "spec", "template", "spec"}, {"spec", "template", "spec"}} //nolint:gochecknoglobals // constant

// bind sets the variables of every container in the object's pod template, and says whether anything changed. It leaves
// all else as it is written.
func bind(o *unstructured.Unstructured, env []corev1.EnvVar) (bool, error) {
	for _, path := range paths {
		pod, found, err := unstructured.NestedMap(o.Object, path...)
		if err != nil || !found {
			continue
		}
		changed := false
		for _, list := range []string{"initContainers", "containers"} {
			containers, found, err := unstructured.NestedSlice(pod, list)
			if err != nil || !found {
				continue
			}
			for i := range containers {
				container, ok := containers[i].(map[string]any)
				if !ok {
					continue
				}
				one, err := set(container, env)
				if err != nil {
					return false, err
				}
				changed = changed || one
			}
			pod[list] = containers
		}
		return changed, unstructured.SetNestedMap(o.Object, pod, path...)
	}
	return false, fmt.Errorf("%s %s/%s has no pod template", o.GetKind(), o.GetNamespace(), o.GetName())
}

func set(container map[string]any, env []corev1.EnvVar) (bool, error) {
	var have struct {
		Env []corev1.EnvVar `json:"env"`
	}
	text, err := json.Marshal(map[string]any{"env": container["env"]})
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(text, &have); err != nil {
		return false, fmt.Errorf("env of container %v: %w", container["name"], err)
	}
	want := sinks.With(have.Env, env)
	if equality.Semantic.DeepEqual(have.Env, want) {
		return false, nil
	}
	if len(want) == 0 {
		delete(container, "env")
		return true, nil
	}
	if text, err = json.Marshal(want); err != nil {
		return false, err
	}
	var list []any
	if err := json.Unmarshal(text, &list); err != nil {
		return false, err
	}
	container["env"] = list
	return true, nil
}
