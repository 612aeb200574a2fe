package v1

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/settings"
)

// TestDisabledFeatures: each key of config-features refuses its field, by the field's
// path and with the key's name, and nothing else.
func TestDisabledFeatures(t *testing.T) {
	const app = "containers: [{name: app, image: a}]"
	cases := map[string]struct{ spec, path string }{
		"multi-container":                              {`containers: [{name: a, image: a, ports: [{containerPort: 1}]}, {name: b, image: a}]`, "containers"},
		"multi-container-probing":                      {`containers: [{name: a, image: a, ports: [{containerPort: 1}]}, {name: b, image: a, readinessProbe: {exec: {command: [x]}}}]`, "containers[1].readinessProbe"},
		"kubernetes.containerspec-addcapabilities":     {`containers: [{name: a, image: a, securityContext: {capabilities: {add: [NET_ADMIN]}}}]`, "containers[0].securityContext.capabilities.add"},
		"kubernetes.podspec-affinity":                  {`affinity: {}` + "\n" + app, "affinity"},
		"kubernetes.podspec-dnsconfig":                 {`dnsConfig: {}` + "\n" + app, "dnsConfig"},
		"kubernetes.podspec-dnspolicy":                 {`dnsPolicy: Default` + "\n" + app, "dnsPolicy"},
		"kubernetes.podspec-fieldref":                  {`containers: [{name: a, image: a, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]`, "containers[0].env"},
		"kubernetes.podspec-hostaliases":               {`hostAliases: [{ip: 1.2.3.4}]` + "\n" + app, "hostAliases"},
		"kubernetes.podspec-hostipc":                   {`hostIPC: true` + "\n" + app, "hostIPC"},
		"kubernetes.podspec-hostnetwork":               {`hostNetwork: true` + "\n" + app, "hostNetwork"},
		"kubernetes.podspec-hostpid":                   {`hostPID: true` + "\n" + app, "hostPID"},
		"kubernetes.podspec-init-containers":           {`initContainers: [{name: i, image: a}]` + "\n" + app, "initContainers"},
		"kubernetes.podspec-nodeselector":              {`nodeSelector: {a: b}` + "\n" + app, "nodeSelector"},
		"kubernetes.podspec-persistent-volume-claim":   {`volumes: [{name: v, persistentVolumeClaim: {claimName: c, readOnly: true}}]` + "\n" + app, "volumes[0].persistentVolumeClaim"},
		"kubernetes.podspec-persistent-volume-write":   {`volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]` + "\n" + app, "volumes[0].persistentVolumeClaim.readOnly"},
		"kubernetes.podspec-priorityclassname":         {`priorityClassName: high` + "\n" + app, "priorityClassName"},
		"kubernetes.podspec-runtimeclassname":          {`runtimeClassName: r` + "\n" + app, "runtimeClassName"},
		"kubernetes.podspec-schedulername":             {`schedulerName: s` + "\n" + app, "schedulerName"},
		"kubernetes.podspec-securitycontext":           {`securityContext: {runAsUser: 1}` + "\n" + app, "securityContext"},
		"kubernetes.podspec-shareprocessnamespace":     {`shareProcessNamespace: true` + "\n" + app, "shareProcessNamespace"},
		"kubernetes.podspec-tolerations":               {`tolerations: [{operator: Exists}]` + "\n" + app, "tolerations"},
		"kubernetes.podspec-topologyspreadconstraints": {`topologySpreadConstraints: [{maxSkew: 1}]` + "\n" + app, "topologySpreadConstraints"},
		"kubernetes.podspec-volumes-csi":               {`volumes: [{name: v, csi: {driver: d}}]` + "\n" + app, "volumes[0].csi"},
		"kubernetes.podspec-volumes-emptydir":          {`volumes: [{name: v, emptyDir: {}}]` + "\n" + app, "volumes[0].emptyDir"},
		"kubernetes.podspec-volumes-ephemeral":         {`volumes: [{name: v, ephemeral: {}}]` + "\n" + app, "volumes[0].ephemeral"},
		"kubernetes.podspec-volumes-hostpath":          {`volumes: [{name: v, hostPath: {path: /}}]` + "\n" + app, "volumes[0].hostPath"},
		"kubernetes.podspec-volumes-image":             {`volumes: [{name: v, image: {reference: r}}]` + "\n" + app, "volumes[0].image"},
		"kubernetes.podspec-volumes-mount-propagation": {`volumes: [{name: v, configMap: {name: m}}]` + "\n" + `containers: [{name: a, image: a, volumeMounts: [{name: v, mountPath: /v, mountPropagation: None}]}]`, "containers[0].volumeMounts"},
	}
	for _, key := range append(settings.PodFeatures(), settings.FeatureMultiContainer, settings.FeatureMultiContainerProbing) {
		c, ok := cases[key]
		if !ok {
			if key != settings.FeatureDryRun {
				t.Errorf("%s is not tried", key)
			}
			continue
		}
		t.Run(key, func(t *testing.T) {
			s := &Service{}
			s.Name = "hello"
			if err := yaml.UnmarshalStrict([]byte(c.spec), &s.Spec.Template.Spec); err != nil {
				t.Fatal(err)
			}
			s.SetDefaults(settings.Default())
			if errs := s.Validate(settings.Default()); len(errs) > 0 {
				t.Fatalf("not admitted by default: %v", errs)
			}
			st, err := settings.Default().With(settings.ConfigFeatures, map[string]string{key: "Disabled"})
			if err != nil {
				t.Fatal(err)
			}
			errs := s.Validate(st)
			if len(errs) != 1 || errs[0].Field != "spec.template.spec."+c.path || !strings.Contains(errs[0].Detail, "config-features/"+key) {
				t.Errorf("errors %v, want one of spec.template.spec.%s that names %s", errs, c.path, key)
			}
		})
	}
}
