package admission_test

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"ebb.dev/ebb/apis/settings"
)

// TestRefusalsBySettings: what is right or wrong by what an operator has set.
func TestRefusalsBySettings(t *testing.T) {
	service := func(pod, traffic string) string {
		return "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: hello}, spec: {template: {spec: {containers: [{image: a}]" + pod + "}}" + traffic + "}}"
	}
	for _, c := range []struct{ configMap, key, value, manifest, want string }{
		{
			settings.ConfigDefaults, "max-revision-timeout-seconds", "1000", service(", timeoutSeconds: 1001", ""),
			"spec.template.spec.timeoutSeconds: Invalid value: 1001: must be 0..1000, the most that config-defaults allows",
		},
		{
			settings.ConfigDefaults, "container-concurrency-max-limit", "5", service(", containerConcurrency: 6", ""),
			"spec.template.spec.containerConcurrency: Invalid value: 6: must be 0..5",
		},
		{
			settings.ConfigAutoscaler, "allow-zero-initial-scale", "true", strings.Replace(service("", ""), "template: {", `template: {metadata: {annotations: {autoscaling.knative.dev/initial-scale: "-1"}}, `, 1),
			`spec.template.metadata.annotations[autoscaling.knative.dev/initial-scale]: Invalid value: "-1": is not a whole number 0..2147483647`,
		},
		{
			settings.ConfigNetwork, "domain-template", strings.Repeat("x", 58) + "{{.Name}}.{{.Domain}}", strings.Replace(service("", ""), "name: hello", "name: hello-too-long", 1),
			`metadata.name: Invalid value: "hello-too-long": host of Route default/hello-too-long by config-network/domain-template: host name "` + strings.Repeat("x", 58) + `hello-too-long.example.com": "` + strings.Repeat("x", 58) + `hello-too-long" is longer than 63 characters`,
		},
		{
			settings.ConfigNetwork, "tag-template", "{{.Tag}}", service("", ", traffic: [{percent: 100, tag: "+strings.Repeat("t", 60)+"}]"),
			`spec.traffic[0].tag: Invalid value: "` + strings.Repeat("t", 60) + `": with the name it is "` + strings.Repeat("t", 60) + `-hello", which is longer than 63 characters`,
		},
		{
			settings.ConfigFeatures, "kubernetes.podspec-init-containers", "Disabled", service(", initContainers: [{name: i, image: a}]", ""),
			"spec.template.spec.initContainers: Forbidden: is disabled by config-features/kubernetes.podspec-init-containers",
		},
	} {
		store := settings.NewStore()
		if err := store.Update(settings.ConfigDomain, map[string]string{"example.com": ""}); err != nil {
			t.Fatal(err)
		}
		if err := store.Update(c.configMap, map[string]string{c.key: c.value}); err != nil {
			t.Fatal(err)
		}
		_, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, c.manifest), nil))
		if want := `Service.serving.knative.dev "` + nameOf(c.manifest) + `" is invalid: ` + c.want; refusal != want {
			t.Errorf("%s/%s: the error is\n%s\nwant\n%s", c.configMap, c.key, refusal, want)
		}
	}
}

func nameOf(manifest string) string {
	_, rest, _ := strings.Cut(manifest, "metadata: {name: ")
	name, _, _ := strings.Cut(rest, "}")
	return name
}
