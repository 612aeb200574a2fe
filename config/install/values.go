package install

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"ebb.dev/ebb/apis/settings"
)

// Values say how Ebb is installed: values.yaml of the chart, and what the flags of `ebb install` set.
type Values struct {
	Image         Image         `json:"image"`
	Controller    Part          `json:"controller"`
	Activator     Activator     `json:"activator"`
	Gateway       Gateway       `json:"gateway"`
	Eventing      Eventing      `json:"eventing"`
	NATS          NATS          `json:"nats"`
	NetworkPolicy NetworkPolicy `json:"networkPolicy"`
	// Settings of the ConfigMaps, by the ConfigMap's name.
	Settings map[string]map[string]string `json:"settings"`
}

// Image says where the images are: REPOSITORY/ebb and REPOSITORY/ebb-gateway.
type Image struct {
	// Repository is HOST[:PORT]/PATH. Empty leaves bare names, which kustomize replaces.
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	// Digests, sha256:…, win over Tag.
	Digests     Digests                       `json:"digests"`
	PullPolicy  corev1.PullPolicy             `json:"pullPolicy"`
	PullSecrets []corev1.LocalObjectReference `json:"pullSecrets"`
}

// Digests of the two images.
type Digests struct {
	Ebb     string `json:"ebb"`
	Gateway string `json:"gateway"`
}

// Part is what can be said of each Deployment.
type Part struct {
	Replicas     int32                       `json:"replicas"`
	Resources    corev1.ResourceRequirements `json:"resources"`
	NodeSelector map[string]string           `json:"nodeSelector"`
	Tolerations  []corev1.Toleration         `json:"tolerations"`
	// Annotations of its pods.
	Annotations map[string]string `json:"annotations"`
	// Args are added to the command line.
	Args []string `json:"args"`
}

// Activator is a Part that finishes its requests before it ends.
type Activator struct {
	Part
	// DrainSeconds is how long requests in progress may take once it is told to end.
	DrainSeconds int64 `json:"drainSeconds"`
}

// Gateway is where requests come in.
type Gateway struct {
	Part
	// DrainSeconds is how long requests in progress may take once it is told to end.
	DrainSeconds int64          `json:"drainSeconds"`
	Service      GatewayService `json:"service"`
	HostPort     HostPort       `json:"hostPort"`
}

// GatewayService is the Service by which callers from outside reach the gateways.
type GatewayService struct {
	Type                  corev1.ServiceType                  `json:"type"`
	Annotations           map[string]string                   `json:"annotations"`
	LoadBalancerClass     string                              `json:"loadBalancerClass"`
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy"`
	// NodePorts are for the types that have them; 0 lets Kubernetes choose.
	NodePorts Ports `json:"nodePorts"`
}

// HostPort puts the gateways on ports of their nodes.
type HostPort struct {
	Enabled bool `json:"enabled"`
	Ports
}

// Ports of a gateway.
type Ports struct {
	HTTP  int32 `json:"http"`
	HTTPS int32 `json:"https"`
}

// Eventing is what takes and delivers events. Without it the kinds are there, and nothing answers them.
type Eventing struct {
	Enabled bool `json:"enabled"`
	Part
}

// NATS is the store of events: one server of Ebb's, or servers of one's own.
type NATS struct {
	// Embedded is Ebb's own server; without, URL is needed.
	Embedded     bool                        `json:"embedded"`
	Storage      Storage                     `json:"storage"`
	Resources    corev1.ResourceRequirements `json:"resources"`
	NodeSelector map[string]string           `json:"nodeSelector"`
	Tolerations  []corev1.Toleration         `json:"tolerations"`
	// Annotations of its pod.
	Annotations map[string]string `json:"annotations"`
	// Args are added to the command line.
	Args []string `json:"args"`

	// URL of other servers with JetStream, several with commas.
	URL string `json:"url"`
	// User is the name that goes with the password in Secret.
	User   string     `json:"user"`
	Secret NATSSecret `json:"secret"`
}

// Storage is the volume of Ebb's own server.
type Storage struct {
	Size resource.Quantity `json:"size"`
	// Class is of the volume; empty is the cluster's default.
	Class string `json:"class"`
	// Promised is how much of it topics may be promised in all: file systems take some for themselves.
	Promised resource.Quantity `json:"promised"`
}

// NATSSecret names a Secret of ebb-system with what other servers ask for, and its keys; empty ones are not there.
type NATSSecret struct {
	Name        string `json:"name"`
	Credentials string `json:"credentials"`
	Password    string `json:"password"`
	CA          string `json:"ca"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
}

// NetworkPolicy says whether and for whom the parts are closed off.
type NetworkPolicy struct {
	Enabled bool `json:"enabled"`
	// MetricsFrom are the labels of namespaces whose pods may read metrics.
	MetricsFrom map[string]string `json:"metricsFrom"`
}

// Default is two replicas of each part behind a LoadBalancer. Requests and limits are from docs/sizing.md.
func Default() Values {
	return Values{
		Image: Image{Tag: "dev", PullPolicy: corev1.PullIfNotPresent},
		Controller: Part{
			Replicas:  2,
			Resources: resources("100m", "128Mi", "1Gi"),
		},
		Activator: Activator{
			Part:         Part{Replicas: 2, Resources: resources("100m", "96Mi", "768Mi")},
			DrainSeconds: 300,
		},
		Gateway: Gateway{
			Part:         Part{Replicas: 2, Resources: resources("200m", "192Mi", "1Gi")},
			DrainSeconds: 300,
			Service:      GatewayService{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster},
			HostPort:     HostPort{Ports: Ports{HTTP: 80, HTTPS: 443}},
		},
		Eventing: Eventing{Enabled: true, Part: Part{Replicas: 2, Resources: resources("200m", "128Mi", "1Gi")}},
		NATS: NATS{
			Embedded:  true,
			Storage:   Storage{Size: resource.MustParse("20Gi"), Promised: resource.MustParse("18Gi")},
			Resources: resources("100m", "128Mi", "1Gi"),
		},
		NetworkPolicy: NetworkPolicy{Enabled: true, MetricsFrom: map[string]string{"ebb.dev/metrics": "true"}},
	}
}

// resources have no limit of processor time: a limit would hold up requests while the machine idles.
func resources(cpu, memory, memoryLimit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memoryLimit)},
	}
}

// Single makes one replica of each part.
func (v *Values) Single() { v.SetReplicas(1) }

// SetReplicas of every part; of Ebb's own store of events there is one.
func (v *Values) SetReplicas(n int32) {
	v.Controller.Replicas, v.Activator.Replicas, v.Gateway.Replicas, v.Eventing.Replicas = n, n, n, n
}

// ref of an image: by digest where there is one, else by tag.
func (i Image) ref(name, digest string) string {
	ref := name
	if i.Repository != "" {
		ref = i.Repository + "/" + name
	}
	if digest != "" {
		return ref + "@" + digest
	}
	return ref + ":" + i.Tag
}

var (
	repositoryForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digestForm     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// mostReplicas bounds the replicas of a part: the control plane remembers up to so many gateways.
const mostReplicas = 1000

// Check returns everything that is wrong, each with its field and what is right.
func (v *Values) Check() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if r := v.Image.Repository; r != "" && !repositoryForm.MatchString(r) {
		bad("image.repository", "%q is not HOST[:PORT]/PATH, such as registry.example.com/ebb", r)
	}
	if !tagForm.MatchString(v.Image.Tag) {
		bad("image.tag", "%q is not a tag", v.Image.Tag)
	}
	for field, digest := range map[string]string{"image.digests.ebb": v.Image.Digests.Ebb, "image.digests.gateway": v.Image.Digests.Gateway} {
		if digest != "" && !digestForm.MatchString(digest) {
			bad(field, "%q is not sha256: and 64 hexadecimal digits", digest)
		}
	}
	switch v.Image.PullPolicy {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		bad("image.pullPolicy", "%q is none of Always, IfNotPresent, Never", v.Image.PullPolicy)
	}
	for name, part := range map[string]*Part{"controller": &v.Controller, "activator": &v.Activator.Part, "gateway": &v.Gateway.Part, "eventing": &v.Eventing.Part} {
		if part.Replicas < 1 || part.Replicas > mostReplicas {
			bad(name+".replicas", "%d is not between 1 and %d", part.Replicas, mostReplicas)
		}
		checkResources(bad, name, part.Resources)
	}
	checkResources(bad, "nats", v.NATS.Resources)
	if v.Eventing.Enabled {
		v.NATS.check(bad)
	}
	for field, seconds := range map[string]int64{"activator.drainSeconds": v.Activator.DrainSeconds, "gateway.drainSeconds": v.Gateway.DrainSeconds} {
		if seconds < 1 || seconds > 24*3600 {
			bad(field, "%d is not between 1 and 86400", seconds)
		}
	}
	switch v.Gateway.Service.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort, corev1.ServiceTypeClusterIP:
	default:
		bad("gateway.service.type", "%q is none of LoadBalancer, NodePort, ClusterIP", v.Gateway.Service.Type)
	}
	switch v.Gateway.Service.ExternalTrafficPolicy {
	case corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal:
	default:
		bad("gateway.service.externalTrafficPolicy", "%q is none of Cluster, Local", v.Gateway.Service.ExternalTrafficPolicy)
	}
	for field, port := range map[string]int32{"gateway.service.nodePorts.http": v.Gateway.Service.NodePorts.HTTP, "gateway.service.nodePorts.https": v.Gateway.Service.NodePorts.HTTPS} {
		if port < 0 || port > 65535 {
			bad(field, "%d is not a port", port)
		}
	}
	for field, port := range map[string]int32{"gateway.hostPort.http": v.Gateway.HostPort.HTTP, "gateway.hostPort.https": v.Gateway.HostPort.HTTPS} {
		if port < 1 || port > 65535 {
			bad(field, "%d is not a port", port)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Settings)) {
		if !slices.Contains(settings.Names(), name) {
			bad("settings."+name, "there is no such ConfigMap; there are %s", strings.Join(settings.Names(), ", "))
			continue
		}
		if _, err := settings.Default().With(name, v.Settings[name]); err != nil {
			bad("settings."+name, "%v", err)
		}
	}
	for k, value := range v.NetworkPolicy.MetricsFrom {
		if wrong := append(validation.IsQualifiedName(k), validation.IsValidLabelValue(value)...); len(wrong) > 0 {
			bad("networkPolicy.metricsFrom", "%s=%s: %s", k, value, wrong[0])
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func checkResources(bad func(field, format string, args ...any), part string, r corev1.ResourceRequirements) {
	for kind, list := range map[string]corev1.ResourceList{"requests": r.Requests, "limits": r.Limits} {
		for name, q := range list {
			if q.Sign() < 0 {
				bad(part+".resources."+kind+"."+string(name), "%s is negative", q.String())
			}
		}
	}
}

// natsForm is one URL or several with commas.
var natsForm = regexp.MustCompile(`^(nats|tls)://[^\s,@]+(,(nats|tls)://[^\s,@]+)*$`)

func (n *NATS) check(bad func(field, format string, args ...any)) {
	s := &n.Secret
	if n.Embedded {
		if n.URL != "" {
			bad("nats.url", "%s goes with nats.embedded: false", n.URL)
		}
		if n.Storage.Size.Sign() <= 0 {
			bad("nats.storage.size", "%s is no size", n.Storage.Size.String())
		}
		if n.Storage.Promised.Sign() <= 0 || n.Storage.Promised.Cmp(n.Storage.Size) > 0 {
			bad("nats.storage.promised", "%s is not between 1 and nats.storage.size, %s", n.Storage.Promised.String(), n.Storage.Size.String())
		}
		return
	}
	if !natsForm.MatchString(n.URL) {
		bad("nats.url", "%q is not nats://HOST:PORT or tls://HOST:PORT, several with commas; names and passwords belong into nats.secret", n.URL)
	}
	keys := map[string]string{"credentials": s.Credentials, "password": s.Password, "ca": s.CA, "cert": s.Cert, "key": s.Key}
	for field, key := range keys {
		switch {
		case key == "":
		case s.Name == "":
			bad("nats.secret."+field, "nats.secret.name is needed: the Secret that has the key %s", key)
		case len(validation.IsConfigMapKey(key)) > 0:
			bad("nats.secret."+field, "%q is not a key of a Secret", key)
		}
	}
	if (s.Cert == "") != (s.Key == "") {
		bad("nats.secret.cert", "nats.secret.cert and nats.secret.key go together")
	}
	if (n.User == "") != (s.Password == "") {
		bad("nats.user", "nats.user and nats.secret.password go together")
	}
}
