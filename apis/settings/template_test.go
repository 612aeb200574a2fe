package settings_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// hungry are templates that would run for ever or take all memory.
func hungry() map[string]string {
	return map[string]string{
		"a loop":            `{{range 1000000000000}}{{end}}{{.Name}}`,
		"a loop inside":     `{{if true}}{{with .}}{{range 1000000000000}}{{end}}{{end}}{{end}}{{.Name}}`,
		"recursion":         `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`,
		"a block":           `{{block "a" .}}{{.Name}}{{end}}`,
		"values that grow":  `{{$x := .Name}}` + strings.Repeat(`{{$x = print $x $x}}`, 100) + `{{.Name}}`,
		"a growing pipe":    `{{.Name` + strings.Repeat(` | printf "%[1]s%[1]s"`, 100) + ` | len}}`,
		"wide formats":      `{{len (printf "` + strings.Repeat("%999999d", 400) + `")}}`,
		"widths by numbers": `{{len (printf "%*d" 1000000 1)}}`,
		"more than 4 KB":    strings.Repeat("x", 4097),
	}
}

func TestHungryTemplatesAreRefused(t *testing.T) {
	for what, text := range hungry() {
		for configMap, keys := range map[string][]string{
			settings.ConfigNetwork:  {"domain-template", "tag-template"},
			settings.ConfigDefaults: {"container-name-template", "init-container-name-template"},
		} {
			for _, key := range keys {
				if _, err := settings.Default().With(configMap, map[string]string{key: text}); err == nil || !strings.Contains(err.Error(), configMap+"/"+key+": ") {
					t.Errorf("%s as %s: %v", what, key, err)
				}
			}
		}
	}
}

// FuzzTemplates: whatever the templates say, what comes out is a host name or an error.
func FuzzTemplates(f *testing.F) {
	f.Add("{{.Name}}.{{.Namespace}}.{{.Domain}}", "{{.Tag}}-{{.Name}}", "hello", "default", "blue", "v")
	f.Add(`{{if eq .Namespace "prod"}}{{.Name}}{{else}}{{.Name}}-{{.Namespace}}{{end}}.{{.Domain}}`, "{{.Name}}-{{.Tag}}", "hello", "prod", "t", "")
	f.Add(`{{index .Labels "app"}}.{{index .Annotations "sub"}}.{{.Domain}}`, `{{printf "%s--%s" .Tag .Name}}`, "a", "b", "c", "d")
	f.Add(`{{.Name | slice 0 1}}.{{.Domain}}`, "x", "a", "b", "c", "d")
	for _, text := range hungry() {
		f.Add(text, text, "hello", "default", "blue", "v")
	}
	f.Fuzz(func(t *testing.T, domain, tag, name, namespace, tagged, label string) {
		next, err := settings.Default().With(settings.ConfigNetwork, map[string]string{"domain-template": domain, "tag-template": tag})
		if err != nil {
			return
		}
		if next, err = next.With(settings.ConfigDomain, map[string]string{"example.com": ""}); err != nil {
			t.Fatal(err)
		}
		route := settings.RouteName{
			Name: name, Namespace: namespace,
			Labels: map[string]string{"app": label}, Annotations: map[string]string{"sub": label, serving.RolloutDurationAnnotation: label},
		}
		check := func(host string, err error) {
			if err == nil && (len(validation.IsDNS1123Subdomain(host)) > 0 || len(host) > 253) {
				t.Fatalf("%q is taken for a host", host)
			}
		}
		check(next.Host(route))
		check(next.TagHost(tagged, route))
	})
}
