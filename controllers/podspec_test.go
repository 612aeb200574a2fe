package controllers_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// everything: a manifest with every field of a pod's spec is admitted, stored as it is,
// and its Deployment is taken by the API server with all of it.
func everything(t *testing.T, p *platform, ns string) {
	text, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &v1.Service{}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(string(text), "REGISTRY", p.registry)), s); err != nil {
		t.Fatal(err)
	}
	s.Namespace = ns
	pod := &s.Spec.Template.Spec.PodSpec
	for _, part := range []struct {
		in        any
		elsewhere []string
	}{
		{pod, []string{
			"ephemeralContainers", "terminationGracePeriodSeconds", "activeDeadlineSeconds", // refused
			"hostNetwork", "hostPID", "hostIPC", "hostUsers", // not beside shareProcessNamespace, or each other
			"hostnameOverride",     // not beside setHostnameAsFQDN
			"schedulingGates",      // not beside nodeName
			"priority", "overhead", // filled in from the classes at the pod's admission
			"workloadRef", "schedulingGroup", "evictionResponders", // behind a gate of Kubernetes that is off
		}},
		{&pod.Containers[0], []string{"lifecycle", "restartPolicy", "restartPolicyRules", "stdinOnce"}},
		{allSources(pod.Volumes), nil},
	} {
		for _, name := range unset(reflect.ValueOf(part.in).Elem()) {
			known := false
			for _, n := range part.elsewhere {
				known = known || n == name
			}
			if !known {
				t.Errorf("%T.%s is not tried", part.in, name)
			}
		}
	}

	s.SetDefaults(settings.Default())
	if errs := s.Validate(settings.Default()); len(errs) > 0 {
		t.Fatalf("not admitted: %v", errs)
	}
	want := asMap(t, s.Spec)
	p.create(t, s)
	stored := &v1.Service{}
	eventually(t, p, stored, ns, "everything", "stored", func(*v1.Service) string { return "" })
	if lost := missing("spec", asMap(t, stored.Spec), want); len(lost) > 0 {
		t.Errorf("what is stored lacks %v", lost)
	}
	d := eventually(t, p, &appsv1.Deployment{}, ns, "everything-00001-deployment", "the deployment is made", func(*appsv1.Deployment) string { return "" })
	// What Ebb writes itself: images by digest, the port's name, and probes as Kubernetes knows them.
	rev := &v1.Revision{}
	eventually(t, p, rev, ns, "everything-00001", "its images are known", func(r *v1.Revision) string {
		if len(r.Status.ContainerStatuses) != 2 || len(r.Status.InitContainerStatuses) != 2 {
			return "not yet"
		}
		return ""
	})
	ours := asMap(t, rev.Spec.PodSpec)
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range ours[list].([]any) {
			delete(c.(map[string]any), "image")
		}
	}
	app := ours["containers"].([]any)[0].(map[string]any)
	app["ports"] = []any{map[string]any{"name": "user-port", "containerPort": 9000.0, "protocol": "TCP"}}
	app["env"] = append([]any{
		map[string]any{"name": "PORT", "value": "9000"}, map[string]any{"name": "K_SERVICE", "value": "everything"},
		map[string]any{"name": "K_CONFIGURATION", "value": "everything"}, map[string]any{"name": "K_REVISION", "value": "everything-00001"},
	}, app["env"].([]any)...)
	probe := app["readinessProbe"].(map[string]any)
	probe["periodSeconds"] = 1.0
	probe["httpGet"].(map[string]any)["port"] = 9000.0
	if lost := missing("spec", asMap(t, d.Spec.Template.Spec), ours); len(lost) > 0 {
		t.Errorf("the deployment lacks %v", lost)
	}
}

// allSources is one source with all that the volumes have.
func allSources(volumes []corev1.Volume) *corev1.VolumeSource {
	all := &corev1.VolumeSource{}
	into := reflect.ValueOf(all).Elem()
	for i := range volumes {
		from := reflect.ValueOf(volumes[i].VolumeSource)
		for f := range from.NumField() {
			if !from.Field(f).IsZero() {
				into.Field(f).Set(from.Field(f))
			}
		}
	}
	return all
}

// unset lists the JSON names of the fields of a struct that are zero.
func unset(v reflect.Value) []string {
	var names []string
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

func asMap(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// missing lists the paths of want whose values are not in have.
func missing(path string, have, want any) []string {
	var lost []string
	switch want := want.(type) {
	case map[string]any:
		have, _ := have.(map[string]any)
		for k, v := range want {
			lost = append(lost, missing(path+"."+k, have[k], v)...)
		}
	case []any:
		have, _ := have.([]any)
		if len(have) != len(want) {
			return []string{path}
		}
		for i, v := range want {
			lost = append(lost, missing(path+"[]", have[i], v)...)
		}
	default:
		if !reflect.DeepEqual(have, want) {
			return []string{path}
		}
	}
	return lost
}
