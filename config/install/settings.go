package install

import (
	"embed"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/settings"
)

//go:embed examples/*.txt
var examples embed.FS

// exampleKey of a ConfigMap explains the others and is never read.
const exampleKey = "_example"

// settingsMaps are the ConfigMaps with the settings that differ from the defaults, and all others explained.
func settingsMaps(v Values) []client.Object {
	var objects []client.Object
	for _, name := range settings.Names() {
		data := map[string]string{exampleKey: Example(name)}
		maps.Copy(data, v.Settings[name])
		objects = append(objects, &corev1.ConfigMap{
			TypeMeta: typeMeta(corev1.SchemeGroupVersion, "ConfigMap"), ObjectMeta: named(name, "settings"), Data: data,
		})
	}
	return objects
}

// Example is the commented text of a ConfigMap: every key with its default.
func Example(configMap string) string {
	text, err := examples.ReadFile("examples/" + configMap + ".txt")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text)) + "\n"
}
