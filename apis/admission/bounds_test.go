package admission_test

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/settings"
)

// huge are objects of hundreds of kilobytes, which the API server lets through, and what
// has to be in the answer.
func huge() map[string][2]string {
	service := func(metadata, template, pod, container, traffic string) string {
		return `{"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"name":"hello"` + metadata + `},"spec":{"template":{"metadata":{` + template +
			`},"spec":{` + pod + `"containers":[{"image":"a"` + container + `}]}}` + traffic + `}}`
	}
	many := func(count int, item func(int) string) string {
		all := make([]string, count)
		for i := range all {
			all[i] = item(i)
		}
		return strings.Join(all, ",")
	}
	long := strings.Repeat("7", 1<<18)
	return map[string][2]string{
		"an annotation":           {service("", `"annotations":{"autoscaling.knative.dev/min-scale":"`+long+`"}`, "", "", ""), "spec.template.metadata.annotations[autoscaling.knative.dev/min-scale]"},
		"an annotation of no use": {service("", `"annotations":{"note":"`+long+`"}`, "", "", ""), "spec.template.metadata.annotations: Too long"},
		"an image":                {service("", "", "", `,"image":"`+long+` "`, ""), "spec.template.spec.containers[0].image"},
		"a tag":                   {service("", "", "", "", `,"traffic":[{"latestRevision":true,"percent":100,"tag":"a`+long+`"}]`), "spec.traffic[0].tag"},
		"a revision's name":       {service("", `"name":"hello-`+long+`"`, "", "", ""), "spec.template.metadata.name"},
		"a field's name":          {service("", "", `"x`+long+`":1,`, "", ""), "unknown field"},
		"targets":                 {service("", "", "", "", `,"traffic":[`+many(10000, func(i int) string { return fmt.Sprintf(`{"revisionName":"hello-%d","percent":0}`, i) })+`]`), "spec.traffic: Too many: 10000: must have at most 1000 items"},
		"bad targets":             {service("", "", "", "", `,"traffic":[`+many(1000, func(int) string { return `{"revisionName":"_","percent":-1,"tag":"A","url":"x"}` })+`]`), "more"},
		"containers":              {service("", "", `"initContainers":[`+many(10000, func(i int) string { return fmt.Sprintf(`{"name":"c%d","image":"a"}`, i) })+`],`, "", ""), "spec.template.spec.initContainers: Too many: 10000: must have at most 64 items"},
		"unknown fields":          {service("", "", many(10000, func(i int) string { return fmt.Sprintf(`"x%d":1`, i) })+",", "", ""), "unknown field"},
		"bad variables":           {service("", "", "", `,"env":[`+many(10000, func(int) string { return `{"name":"="}` })+`]`, ""), "more"},
		"volumes without mounts":  {service("", "", `"volumes":[`+many(10000, func(i int) string { return fmt.Sprintf(`{"name":"V%d","emptyDir":{}}`, i) })+`],`, "", ""), "more"},
		"nesting":                 {service("", "", `"affinity":`+strings.Repeat(`{"nodeAffinity":`, 9000)+"1"+strings.Repeat("}", 9000)+",", "", ""), "unknown field"},
		"a label":                 {service(`,"labels":{"networking.knative.dev/visibility":"`+long+`"}`, "", "", "", ""), "metadata.labels[networking.knative.dev/visibility]"},
	}
}

// TestHugeInput: what is far too large is refused with the field's name, in a few lines.
func TestHugeInput(t *testing.T) {
	for what, test := range huge() {
		t.Run(what, func(t *testing.T) {
			_, refusal := admit(t, settings.NewStore(), request(admissionv1.Create, "ann", []byte(test[0]), nil))
			if !strings.Contains(refusal, test[1]) || len(refusal) > 16<<10 {
				t.Errorf("%d bytes of answer to %d bytes, without %q: %.1000s", len(refusal), len(test[0]), test[1], refusal)
			}
		})
	}
	for _, name := range settings.Names() {
		for key, value := range map[string]string{
			"stable-window": strings.Repeat("7", 1<<18), strings.Repeat("k", 1<<18): "x", "domain-template": strings.Repeat("{{.Name}}", 1<<15), "example.com": strings.Repeat("- ", 1<<17),
		} {
			m := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{%q:%q}}`, name, key, value)
			answer := admission.SettingsValidator().Handle(t.Context(), request(admissionv1.Create, "ann", []byte(m), nil))
			if answer.Allowed || len(answer.Result.Message) > 16<<10 {
				t.Errorf("%s with %.20s: allowed %v with %d bytes of answer", name, key, answer.Allowed, len(answer.Result.Message))
			}
		}
	}
}

// TestManySettings: a ConfigMap of 20,000 keys is refused in a few lines.
func TestManySettings(t *testing.T) {
	data := make([]string, 20000)
	for i := range data {
		data[i] = fmt.Sprintf(`"key-%d":""`, i)
	}
	for _, name := range settings.Names() {
		m := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{%s}}`, name, strings.Join(data, ","))
		answer := admission.SettingsValidator().Handle(t.Context(), request(admissionv1.Create, "ann", []byte(m), nil))
		if answer.Allowed || len(answer.Result.Message) > 4<<10 {
			t.Errorf("%s: allowed %v with %d bytes of answer", name, answer.Allowed, len(answer.Result.Message))
		}
	}
}

// BenchmarkHuge is what the worst objects cost.
func BenchmarkHuge(b *testing.B) {
	store := settings.NewStore()
	for what, test := range huge() {
		req := request(admissionv1.Create, "ann", []byte(test[0]), nil)
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				admit(b, store, req)
			}
		})
	}
}
