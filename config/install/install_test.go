package install_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/config/install"
)

func objects(t *testing.T, v install.Values) []client.Object {
	t.Helper()
	if err := v.Check(); err != nil {
		t.Fatal(err)
	}
	stages, err := install.Stages(v)
	if err != nil {
		t.Fatal(err)
	}
	var all []client.Object
	for _, s := range stages {
		all = append(all, s.Objects...)
	}
	return all
}

// TestObjects: each has its kind and labels, and a name of its own.
func TestObjects(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range objects(t, install.Default()) {
		kind := o.GetObjectKind().GroupVersionKind()
		key := kind.String() + " " + o.GetNamespace() + "/" + o.GetName()
		if kind.Kind == "" || kind.Version == "" || o.GetName() == "" || seen[key] {
			t.Errorf("%T %q: kind or name is missing or there twice", o, key)
		}
		seen[key] = true
		if o.GetLabels()[install.PartOfLabel] != install.PartOf {
			t.Errorf("%s has no label %s", key, install.PartOfLabel)
		}
		if ns := o.GetNamespace(); ns != "" && ns != install.Namespace {
			t.Errorf("%s is in another namespace", key)
		}
	}
}

// TestPods: what every Deployment must have. The API server's own admission of "restricted" pods is tested in cmd/ebb/install.
func TestPods(t *testing.T) {
	v := install.Default()
	v.Image.Repository = "registry.example.com/ebb"
	v.Gateway.Tolerations = []corev1.Toleration{{Key: "edge", Operator: corev1.TolerationOpExists}}
	v.Gateway.Args = []string{"--concurrency=2"}
	count := 0
	for _, o := range objects(t, v) {
		switch o := o.(type) {
		case *appsv1.Deployment:
			count++
			pod := o.Spec.Template.Spec
			c := pod.Containers[0]
			if !maps.Equal(o.Spec.Selector.MatchLabels, o.Spec.Template.Labels) {
				t.Errorf("%s: its selector is not its pods' labels", o.Name)
			}
			if !strings.HasPrefix(c.Image, "registry.example.com/ebb/ebb") {
				t.Errorf("%s: image %s", o.Name, c.Image)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: resources %v", o.Name, c.Resources)
			}
			if pod.PriorityClassName != install.PriorityName || len(pod.TopologySpreadConstraints) != 2 || pod.ServiceAccountName != o.Name {
				t.Errorf("%s: priority %q, spread %v, account %q", o.Name, pod.PriorityClassName, pod.TopologySpreadConstraints, pod.ServiceAccountName)
			}
			if token := *pod.AutomountServiceAccountToken; token != (o.Name == install.ControllerName || o.Name == install.EventingName) {
				t.Errorf("%s: has a token: %v", o.Name, token)
			}
			if o.Name == install.GatewayName && (len(pod.Tolerations) != 1 || c.Args[len(c.Args)-1] != "--concurrency=2") {
				t.Errorf("%s: tolerations %v, args %v", o.Name, pod.Tolerations, c.Args)
			}
		case *policyv1.PodDisruptionBudget:
			if o.Spec.MaxUnavailable == nil || o.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("%s would keep a machine from being emptied", o.Name)
			}
		}
	}
	if count != 4 {
		t.Errorf("%d Deployments", count)
	}
}

// TestExamples: what the ConfigMaps explain is what the settings are without them: every line is a key that
// is known, with its default.
func TestExamples(t *testing.T) {
	without := settings.Default()
	for _, name := range settings.Names() {
		text := install.Example(name)
		var data map[string]string
		if err := yaml.UnmarshalStrict([]byte(text), &data); err != nil || len(data) == 0 {
			t.Errorf("%s: %d keys, %v", name, len(data), err)
			continue
		}
		if _, err := without.With(name, data); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for key := range data {
			one, err := without.With(name, map[string]string{key: data[key]})
			if name == settings.ConfigDomain {
				continue // these are no defaults
			}
			if err != nil {
				t.Errorf("%s/%s: %v", name, key, err)
				continue
			}
			if a, b := render(t, one), render(t, without); a != b {
				t.Errorf("%s/%s: %q is not the default", name, key, data[key])
			}
		}
	}
}

// render is what is comparable of the settings. The limits of a gateway are not: unset they are its own.
func render(t *testing.T, s *settings.Settings) string {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{
		"autoscaler": s.Autoscaler, "defaults": s.Defaults, "deployment": s.Deployment, "gc": s.GC, "certmanager": s.CertManager, "eventing": s.Eventing, "observability": s.Observability,
		"network":  []any{s.Network.ExternalDomainTLS, s.Network.HTTPProtocol, s.Network.DefaultExternalScheme, s.Network.RolloutDuration, s.Network.AutocreateClusterDomainClaims},
		"features": []any{s.Features.DryRunAlways(), s.Features.TagHeaderRouting(), s.Features.SecurePodDefaults()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCheck: every mistake is named with its field.
func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*install.Values){
		"image.repository:":                      func(v *install.Values) { v.Image.Repository = "https://registry.example.com" },
		"image.tag:":                             func(v *install.Values) { v.Image.Tag = "a b" },
		"image.digests.gateway:":                 func(v *install.Values) { v.Image.Digests.Gateway = "sha256:12" },
		"image.pullPolicy:":                      func(v *install.Values) { v.Image.PullPolicy = "Sometimes" },
		"activator.replicas:":                    func(v *install.Values) { v.Activator.Replicas = 0 },
		"gateway.drainSeconds:":                  func(v *install.Values) { v.Gateway.DrainSeconds = -1 },
		"gateway.service.type:":                  func(v *install.Values) { v.Gateway.Service.Type = "ExternalName" },
		"gateway.service.externalTrafficPolicy:": func(v *install.Values) { v.Gateway.Service.ExternalTrafficPolicy = "" },
		"gateway.service.nodePorts.http:":        func(v *install.Values) { v.Gateway.Service.NodePorts.HTTP = 70000 },
		"gateway.hostPort.https:":                func(v *install.Values) { v.Gateway.HostPort.HTTPS = 0 },
		"settings.config-mesh:":                  func(v *install.Values) { v.Settings = map[string]map[string]string{"config-mesh": nil} },
		"settings.config-gc:": func(v *install.Values) {
			v.Settings = map[string]map[string]string{"config-gc": {"min-non-active-revisions": "x"}}
		},
		"eventing.replicas:": func(v *install.Values) { v.Eventing.Replicas = 0 },
		"nats.resources.limits.cpu:": func(v *install.Values) {
			v.NATS.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("-1")}
		},
		"nats.storage.promised:": func(v *install.Values) { v.NATS.Storage.Promised = resource.MustParse("21Gi") },
		"nats.storage.promised: 1 is not between 1 and nats.storage.size, 0\nnats.storage.size:": func(v *install.Values) { v.NATS.Storage = install.Storage{Promised: resource.MustParse("1")} },
		"nats.url: \"\" is not":      func(v *install.Values) { v.NATS.Embedded = false },
		"nats.url: \"nats://u:p@a\"": func(v *install.Values) { v.NATS.Embedded, v.NATS.URL = false, "nats://u:p@a" },
		"nats.url: nats://a goes":    func(v *install.Values) { v.NATS.URL = "nats://a" },
		"nats.user: nats.user and":   func(v *install.Values) { v.NATS.Embedded, v.NATS.URL, v.NATS.User = false, "nats://a", "me" },
		"nats.secret.ca: nats.secret.name is needed": func(v *install.Values) {
			v.NATS.Embedded, v.NATS.URL, v.NATS.Secret.CA = false, "nats://a", "ca.crt"
		},
		"nats.secret.cert: nats.secret.cert and": func(v *install.Values) {
			v.NATS.Embedded, v.NATS.URL, v.NATS.Secret = false, "nats://a", install.NATSSecret{Name: "a", Cert: "tls.crt"}
		},
		"nats.secret.ca: \"a/b\"": func(v *install.Values) {
			v.NATS.Embedded, v.NATS.URL, v.NATS.Secret = false, "nats://a", install.NATSSecret{Name: "a", CA: "a/b"}
		},
		"networkPolicy.metricsFrom:": func(v *install.Values) { v.NetworkPolicy.MetricsFrom = map[string]string{"a b": ""} },
	} {
		v := install.Default()
		change(&v)
		if err := v.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s %v", want, err)
		}
	}
}

// TestHostPort opens the namespace for ports of nodes and nothing else.
func TestHostPort(t *testing.T) {
	v := install.Default()
	v.Gateway.HostPort.Enabled = true
	for _, o := range objects(t, v) {
		switch o := o.(type) {
		case *corev1.Namespace:
			if o.Labels["pod-security.kubernetes.io/enforce"] != "privileged" || o.Labels["pod-security.kubernetes.io/warn"] != "restricted" {
				t.Errorf("labels %v", o.Labels)
			}
		case *appsv1.Deployment:
			var ports []int32
			for _, p := range o.Spec.Template.Spec.Containers[0].Ports {
				if p.HostPort != 0 {
					ports = append(ports, p.HostPort)
				}
			}
			if (o.Name == install.GatewayName) != slices.Equal(ports, []int32{80, 443}) {
				t.Errorf("%s: ports of its node %v", o.Name, ports)
			}
		}
	}
}

// TestEventing: the store of events is there only with eventing and without other servers; then nothing but the eventing part reaches it.
func TestEventing(t *testing.T) {
	for name, c := range map[string]struct {
		change        func(*install.Values)
		store, events bool
	}{
		"default":  {func(*install.Values) {}, true, true},
		"external": {func(v *install.Values) { v.NATS.Embedded, v.NATS.URL = false, "nats://nats.example.com" }, false, true},
		"none":     {func(v *install.Values) { v.Eventing.Enabled = false }, false, false},
	} {
		v := install.Default()
		c.change(&v)
		store, events := 0, 0
		for _, o := range objects(t, v) {
			switch o.GetLabels()[install.ComponentLabel] {
			case "nats":
				store++
			case "eventing":
				events++
			}
			if s, ok := o.(*appsv1.StatefulSet); ok {
				pod := s.Spec.Template.Spec
				if *s.Spec.Replicas != 1 || *pod.AutomountServiceAccountToken || len(s.Spec.VolumeClaimTemplates) != 1 || !slices.Contains(pod.Containers[0].Args, "--max-store=18Gi") {
					t.Errorf("%s: %+v", s.Name, s.Spec)
				}
			}
			p, ok := o.(*networkingv1.NetworkPolicy)
			if !ok || p.Name != install.NATSName {
				continue
			}
			if from := p.Spec.Ingress[0].From; len(from) != 1 || from[0].PodSelector.MatchLabels[install.ComponentLabel] != "eventing" || from[0].NamespaceSelector != nil {
				t.Errorf("%s is open for %v", p.Name, from)
			}
		}
		if (store > 0) != c.store || (events > 0) != c.events {
			t.Errorf("%s: %d objects of the store, %d of eventing", name, store, events)
		}
	}
}
