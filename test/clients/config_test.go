package clients

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/config/install"
	"ebb.dev/ebb/config/install/render"
)

// TestKustomize: the base and each overlay build what `ebb install` makes of the values that they stand for.
func TestKustomize(t *testing.T) {
	for path, change := range map[string]func(*install.Values){
		"base":            func(*install.Values) {},
		"overlays/single": (*install.Values).Single,
		"overlays/nodeport": func(v *install.Values) {
			v.Gateway.Service.Type = corev1.ServiceTypeNodePort
		},
		"overlays/hostport": func(v *install.Values) {
			v.Gateway.HostPort.Enabled, v.Gateway.Service.Type = true, corev1.ServiceTypeClusterIP
		},
		"overlays/external-nats": func(v *install.Values) {
			v.NATS.Embedded, v.NATS.URL = false, "tls://nats.example.com:4222"
			v.NATS.Secret = install.NATSSecret{Name: "nats-credentials", Credentials: "user.creds", CA: "ca.crt"}
		},
		"overlays/dev": func(v *install.Values) {
			v.Single()
			v.Gateway.Service.Type = corev1.ServiceTypeClusterIP
			v.Settings = map[string]map[string]string{"config-domain": {"localhost": ""}, "config-network": {"external-port": "8080"}}
		},
	} {
		t.Run(path, func(t *testing.T) {
			built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(configFolder, path))
			if err != nil {
				t.Fatal(err)
			}
			text, err := built.AsYaml()
			if err != nil {
				t.Fatal(err)
			}
			v := install.Default()
			change(&v)
			same(t, read(t, text), made(t, v))
		})
	}
}

const configFolder = "../../config"

// TestChart renders the chart with values that change everything that values change, and with those that take things away.
func TestChart(t *testing.T) {
	program := helmProgram(t)
	for name, text := range map[string]string{
		"defaults": "image: {repository: registry.example.com/ebb}",
		"everything": `
image:
  repository: registry.example.com:5000/platform/ebb
  tag: v1.2.3
  digests: {gateway: "sha256:` + strings.Repeat("ab", 32) + `"}
  pullPolicy: Always
  pullSecrets: [{name: pull}, {name: other}]
controller:
  replicas: 3
  resources: {requests: {cpu: "1", memory: 2Gi}, limits: {cpu: "2"}}
  nodeSelector: {pool: system}
  tolerations: [{key: system, operator: Exists, effect: NoSchedule}]
  annotations: {a/b: "true", c: "1"}
  args: [--verbose, "--configuration-idle=1m"]
activator: {replicas: 5, drainSeconds: 60, args: [--max-held=10], nodeSelector: {pool: a}, annotations: {x: z}}
gateway:
  replicas: 4
  drainSeconds: 3600
  nodeSelector: {pool: edge}
  tolerations: [{key: edge, operator: Equal, value: "yes", tolerationSeconds: 5, effect: NoExecute}]
  annotations: {d: e}
  args: ["--concurrency=4"]
  service:
    type: LoadBalancer
    annotations: {"lb.example.com/kind": internal}
    loadBalancerClass: example.com/lb
    externalTrafficPolicy: Local
    nodePorts: {http: 30080, https: 30443}
eventing:
  replicas: 3
  resources: {requests: {cpu: "3", memory: 1Gi}}
  nodeSelector: {pool: events}
  tolerations: [{key: events, operator: Exists}]
  annotations: {e: f}
  args: [--verbose]
nats:
  storage: {size: 100Gi, class: fast, promised: 90Gi}
  nodeSelector: {disk: fast}
  tolerations: [{key: disk, operator: Exists}]
  annotations: {g: h}
  args: [--sync=always]
networkPolicy: {metricsFrom: {"ebb.dev/metrics": null, team: monitoring}}
settings:
  config-domain: {example.com: "", a.example.com: "selector:\n  team: a\n"}
  config-network: {domain-template: "{{.Name}}-{{.Namespace}}.{{.Domain}}", external-port: "8080"}
`,
		"node ports":  "{image: {repository: a/b}, gateway: {service: {type: NodePort, nodePorts: {https: 30443}}}}",
		"host ports":  "{image: {repository: a/b}, gateway: {service: {type: ClusterIP, annotations: {a: b}}, hostPort: {enabled: true, http: 8080}}}",
		"no eventing": "{image: {repository: a/b}, eventing: {enabled: false}}",
		"other nats":  "{image: {repository: a/b}, nats: {embedded: false, url: \"nats://a:4222,tls://b:4222\"}}",
		"other nats and all": "{image: {repository: a/b}, nats: {embedded: false, url: \"tls://nats:4222\", user: ebb, " +
			"secret: {name: nats, credentials: user.creds, password: password, ca: ca.crt, cert: tls.crt, key: tls.key}}}",
		"other nats without policies": "{image: {repository: a/b}, networkPolicy: {enabled: false}, nats: {embedded: false, url: \"tls://nats:4222\"}}",
		"no policies":                 "{image: {repository: a/b}, networkPolicy: {enabled: false}}",
		"metrics for all":             `{image: {repository: a/b}, networkPolicy: {metricsFrom: {"ebb.dev/metrics": null}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := template(t, program, text)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// As Helm merges: over the defaults, key by key, and null takes a key away.
			v := install.Default()
			if err := yaml.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
			maps.DeleteFunc(v.NetworkPolicy.MetricsFrom, func(_, value string) bool { return value == "" })
			if strings.Contains(text, "{cpu: \"1\"") { // merged with the default limits, which Go's decoder replaces
				v.Controller.Resources.Limits[corev1.ResourceMemory] = install.Default().Controller.Resources.Limits[corev1.ResourceMemory]
			}
			if err := v.Check(); err != nil {
				t.Fatal(err)
			}
			have, want := read(t, []byte(out)), made(t, v)
			for key := range have {
				if strings.HasPrefix(key, "CustomResourceDefinition ") {
					if !strings.Contains(have[key], "helm.sh/resource-policy: keep") {
						t.Errorf("%s would go with the release", key)
					}
					have[key] = strings.Replace(have[key], "    helm.sh/resource-policy: keep\n", "", 1)
				}
			}
			delete(want, "Namespace /"+install.Namespace) // the release's own
			same(t, have, want)
		})
	}
}

// TestChartRefuses: values that `ebb install` refuses, the chart's schema refuses.
func TestChartRefuses(t *testing.T) {
	program := helmProgram(t)
	const image = "image: {repository: a/b}\n"
	for text, names := range map[string]string{
		"image: {repository: \"\"}":                              "repository",
		"image: {repository: \"https://a/b\"}":                   "repository",
		"image: {repository: a/b, tag: \"a b\"}":                 "tag",
		"image: {repository: a/b, digests: {ebb: \"sha256:1\"}}": "ebb",
		"image: {repository: a/b, pullPolicy: Sometimes}":        "pullPolicy",
		image + "controller: {replicas: 0}":                      "replicas",
		image + "gateway: {drainSeconds: 0}":                     "drainSeconds",
		image + "gateway: {service: {type: ExternalName}}":       "type",
		image + "gateway: {service: {externalTrafficPolicy: A}}": "externalTrafficPolicy",
		image + "gateway: {hostPort: {http: 0}}":                 "http",
		image + "gatway: {}":                                     "gatway",
		image + "activator: {replica: 3}":                        "replica",
		image + "eventing: {replicas: 0}":                        "replicas",
		image + "nats: {embedded: false}":                        "url",
		image + "nats: {url: \"nats://a:4222\"}":                 "url",
		image + "nats: {embedded: false, url: \"nats://u:p@a\"}": "url",
		image + "nats: {storage: {size: big}}":                   "size",
		image + "settings: {config-mesh: {}}":                    "config-mesh",
		image + "settings: {config-gc: {a: 1}}":                  "config-gc",
	} {
		v := install.Default()
		if err := yaml.UnmarshalStrict([]byte(text), &v); err == nil && v.Image.Repository != "" {
			if err := v.Check(); err == nil {
				t.Errorf("%s: is taken by `ebb install`", text)
			}
		}
		if out, err := template(t, program, text); err == nil || !strings.Contains(out, names) {
			t.Errorf("%s: %v\n%s", text, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "template", "ebb", filepath.Join(configFolder, "chart"), "--namespace", "other", "--set", "image.repository=a/b")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "--namespace ebb-system") {
		t.Errorf("another namespace: %v\n%s", err, out)
	}
}

func template(t *testing.T, program, values string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "template", "ebb", filepath.Join(configFolder, "chart"), "--namespace", install.Namespace, "--kube-version", "1.33.0", "--values", file)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+dir, "HELM_CONFIG_HOME="+dir, "HELM_DATA_HOME="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// made are the objects of the Go code, as YAML by kind and name.
func made(t *testing.T, v install.Values) map[string]string {
	t.Helper()
	stages, err := install.Stages(v)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range stages {
		for _, o := range s.Objects {
			add(t, all, o)
		}
	}
	return all
}

// read takes a stream of YAML apart and decodes each document strictly as its kind.
func read(t *testing.T, text []byte) map[string]string {
	t.Helper()
	if err := apiextensionsv1.AddToScheme(clientgoscheme.Scheme); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(clientgoscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	all := map[string]string{}
	for document := range strings.SplitSeq("\n"+string(text), "\n---\n") {
		var any map[string]any
		if err := yaml.Unmarshal([]byte(document), &any); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if len(any) == 0 {
			continue
		}
		object, _, err := decoder.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		add(t, all, object.(client.Object))
	}
	return all
}

func add(t *testing.T, to map[string]string, o client.Object) {
	t.Helper()
	key := fmt.Sprintf("%s %s/%s", o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName())
	if _, twice := to[key]; twice {
		t.Fatalf("%s is there twice", key)
	}
	text, err := render.YAML([]client.Object{o})
	if err != nil {
		t.Fatal(err)
	}
	to[key] = string(text)
}

func same(t *testing.T, have, want map[string]string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if have[key] != want[key] {
			t.Errorf("%s:\n%s\nwant:\n%s", key, have[key], want[key])
		}
		delete(have, key)
	}
	for key := range have {
		t.Errorf("%s is one too many", key)
	}
	if len(want) < 20 {
		t.Errorf("only %d objects were compared", len(want))
	}
}
