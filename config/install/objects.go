package install

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/config"
)

// Namespace of all of it.
const Namespace = serving.Namespace

// Names of the Deployments, and of the ServiceAccounts and Services that go with them.
const (
	ControllerName = "ebb-controller"
	ActivatorName  = "ebb-activator"
	GatewayName    = "ebb-gateway"
	// ControlName is the Service whose name stands for all controllers.
	ControlName  = "ebb-control"
	EventingName = "ebb-eventing"
	// NATSName is of the StatefulSet that stores events.
	NATSName = "ebb-nats"
	// BrokerIngressName is the Service that events are sent to: senders know it by this name.
	BrokerIngressName = "broker-ingress"
	// InternalName is the Service for callers inside the cluster.
	InternalName = "ebb-gateway-internal"
	// PriorityName is the PriorityClass of all parts.
	PriorityName = "ebb-system"
)

// ControllerUser is what the kube-apiserver calls the controller.
const ControllerUser = "system:serviceaccount:" + Namespace + ":" + ControllerName

// EventingUser is what it calls the eventing part.
const EventingUser = "system:serviceaccount:" + Namespace + ":" + EventingName

// Labels of everything that is installed.
const (
	PartOfLabel    = "app.kubernetes.io/part-of"
	ComponentLabel = "app.kubernetes.io/component"
	PartOf         = "ebb"
)

// Stage is one step of an installation: objects that may be applied in any order.
type Stage struct {
	Name    string
	Objects []client.Object
}

// Names of the stages.
const (
	Kinds      = "kinds"
	Namespaced = "namespace"
	Rights     = "rights"
	Settings   = "settings"
	Network    = "network"
	Controller = "controller"
	Admission  = "admission"
	Activators = "activator"
	Gateways   = "gateway"
	Stores     = "nats"
	Events     = "eventing"
)

// Stages are everything, in the order in which an installation or an upgrade loses no request: kinds that the
// new controller needs, the controller, then what it configures. Every object has its kind and its labels.
// It fails only where the files in the binary are broken.
func Stages(v Values) ([]Stage, error) {
	kinds, err := config.CRDs()
	if err != nil {
		return nil, err
	}
	crds := make([]client.Object, len(kinds))
	for i, crd := range kinds {
		crd.TypeMeta = typeMeta(apiextensionsv1.SchemeGroupVersion, "CustomResourceDefinition")
		crds[i] = crd
	}
	stages := []Stage{
		{Kinds, crds},
		{Namespaced, []client.Object{namespace(v), priority()}},
		{Rights, rights(v, kinds)},
		{Settings, settingsMaps(v)},
		{Network, network(v)},
		{Controller, controller(v)},
		{Admission, hooks()},
		{Activators, activator(v)},
		{Gateways, gateway(v)},
	}
	// What delivers events goes through the gateways and needs the store.
	if v.Eventing.Enabled {
		if v.NATS.Embedded {
			stages = append(stages, Stage{Stores, nats(v)})
		}
		stages = append(stages, Stage{Events, eventing(v)})
	}
	for _, stage := range stages {
		for _, o := range stage.Objects {
			labels := map[string]string{PartOfLabel: PartOf}
			maps.Copy(labels, o.GetLabels())
			o.SetLabels(labels)
		}
	}
	return stages, nil
}

func typeMeta(gv schema.GroupVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: gv.String(), Kind: kind}
}

// named is the metadata of a namespaced object of a part.
func named(name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{ComponentLabel: component}}
}

// namespace admits restricted pods only. Ports of the node are not restricted, so gateways that use them open it,
// and what is not restricted is still warned about.
func namespace(v Values) *corev1.Namespace {
	enforce := "restricted"
	if v.Gateway.HostPort.Enabled {
		enforce = "privileged"
	}
	return &corev1.Namespace{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Namespace"),
		ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": enforce,
			"pod-security.kubernetes.io/audit":   "restricted",
			"pod-security.kubernetes.io/warn":    "restricted",
		}},
	}
}

// priorityValue is above what users run by default and below Kubernetes' own parts.
const priorityValue = 1_000_000

func priority() *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{
		TypeMeta:    typeMeta(schedulingv1.SchemeGroupVersion, "PriorityClass"),
		ObjectMeta:  metav1.ObjectMeta{Name: PriorityName},
		Value:       priorityValue,
		Description: "Parts of Ebb: services cannot be reached or started without them.",
	}
}
