package install

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// network is how the parts are reached, how few of them there may be, and who may reach them.
func network(v Values) []client.Object {
	objects := []client.Object{
		service(ControllerName, "controller", servicePort("control", controlPort, "control"), servicePort("admission", admissionPort, "admission")),
		control(),
		service(ActivatorName, "activator", servicePort("http", 80, "http"), servicePort("drain", hookPort, "drain")),
		service(InternalName, "gateway", servicePort("http", 80, "internal")),
		external(v.Gateway.Service),
		budget(ControllerName, "controller"), budget(ActivatorName, "activator"), budget(GatewayName, "gateway"),
	}
	if v.Eventing.Enabled {
		ingress := service(EventingName, eventingComponent, servicePort("http", 80, "http"))
		ingress.Name = BrokerIngressName
		objects = append(objects, ingress, budget(EventingName, eventingComponent))
		if v.NATS.Embedded {
			objects = append(objects, service(NATSName, "nats", servicePort("nats", natsPort, "nats")), budget(NATSName, "nats"))
		}
	}
	if v.NetworkPolicy.Enabled {
		objects = append(objects, policies(v)...)
	}
	return objects
}

func servicePort(name string, number int32, target string) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromString(target), Protocol: corev1.ProtocolTCP}
}

func service(name, component string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Service"), ObjectMeta: named(name, component),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: selector(component), Ports: ports},
	}
}

// control is a name that stands for all controllers, ready or not: gateways and activators go through them until
// they find the one that leads.
func control() *corev1.Service {
	s := service(ControlName, "controller", servicePort("control", controlPort, "control"))
	s.Spec.ClusterIP, s.Spec.PublishNotReadyAddresses = corev1.ClusterIPNone, true
	return s
}

// external is the Service for callers from outside.
func external(v GatewayService) *corev1.Service {
	s := service(GatewayName, "gateway", servicePort("http", 80, "http"), servicePort("https", 443, "https"))
	s.Annotations = v.Annotations
	s.Spec.Type = v.Type
	if v.Type == corev1.ServiceTypeClusterIP {
		return s
	}
	s.Spec.ExternalTrafficPolicy = v.ExternalTrafficPolicy
	s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = v.NodePorts.HTTP, v.NodePorts.HTTPS
	if v.Type == corev1.ServiceTypeLoadBalancer && v.LoadBalancerClass != "" {
		s.Spec.LoadBalancerClass = &v.LoadBalancerClass
	}
	return s
}

// budget lets a machine be emptied one pod of a part at a time, whatever the replicas.
func budget(name, component string) *policyv1.PodDisruptionBudget {
	one := intstr.FromInt32(1)
	return &policyv1.PodDisruptionBudget{
		TypeMeta: typeMeta(policyv1.SchemeGroupVersion, "PodDisruptionBudget"), ObjectMeta: named(name, component),
		Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: selector(component)}},
	}
}

// policies close the namespace for what comes in, and open what each part is for. What goes out is open: gateways and
// activators go to every pod, the controller to registries.
func policies(v Values) []client.Object {
	parts := func(components ...string) []networkingv1.NetworkPolicyPeer {
		var peers []networkingv1.NetworkPolicyPeer
		for _, c := range components {
			peers = append(peers, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: selector(c)}})
		}
		return peers
	}
	allow := func(from []networkingv1.NetworkPolicyPeer, numbers ...int) networkingv1.NetworkPolicyIngressRule {
		rule := networkingv1.NetworkPolicyIngressRule{From: from}
		for _, n := range numbers {
			tcp, number := corev1.ProtocolTCP, intstr.FromInt(n)
			rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Protocol: &tcp, Port: &number})
		}
		return rule
	}
	policy := func(name, component string, rules ...networkingv1.NetworkPolicyIngressRule) client.Object {
		return &networkingv1.NetworkPolicy{
			TypeMeta: typeMeta(networkingv1.SchemeGroupVersion, "NetworkPolicy"), ObjectMeta: named(name, component),
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: selector(component)},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, Ingress: rules,
			},
		}
	}
	metrics := allow([]networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: v.NetworkPolicy.MetricsFrom}}}, metricsPort)
	everyPod := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	closed := &networkingv1.NetworkPolicy{
		TypeMeta:   typeMeta(networkingv1.SchemeGroupVersion, "NetworkPolicy"),
		ObjectMeta: metav1.ObjectMeta{Name: "ebb-closed", Namespace: Namespace},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}},
	}
	open := []client.Object{
		closed,
		// The kube-apiserver, which asks admission, has no label and no known address.
		policy(ControllerName, "controller", allow(parts("gateway", "activator", eventingComponent), controlPort), allow(nil, webhookPort), metrics),
		// Hooks come from the kubelets, whose addresses are those of the nodes.
		policy(ActivatorName, "activator", allow(parts("gateway"), requestPort), allow(nil, hookPort), metrics),
		policy(GatewayName, "gateway", allow(nil, httpPort, httpsPort), allow(everyPod, internalPort), metrics),
	}
	if v.Eventing.Enabled {
		open = append(open, policy(EventingName, eventingComponent, allow(everyPod, httpPort), metrics))
		if v.NATS.Embedded {
			open = append(open, policy(NATSName, "nats", allow(parts(eventingComponent), natsPort), metrics))
		}
	}
	return open
}
