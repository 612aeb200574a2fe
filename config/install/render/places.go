package render

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/config/install"
)

// value is an expression after the key.
func value(expression string) form {
	return func(indent, key string) string { return indent + key + ": {{ " + expression + " }}\n" }
}

// when is the expression, and no key at all unless the condition holds.
func when(condition, expression string) form {
	return func(indent, key string) string {
		return fmt.Sprintf("%[1]s{{- if %[2]s }}\n%[1]s%[3]s: {{ %[4]s }}\n%[1]s{{- end }}\n", indent, condition, key, expression)
	}
}

// block is a map or a list, and no key at all where it is empty.
func block(expression string) form {
	return func(indent, key string) string {
		return fmt.Sprintf("%[1]s{{- with %[2]s }}\n%[1]s%[3]s:\n%[1]s  {{- toYaml . | nindent %[4]d }}\n%[1]s{{- end }}\n", indent, expression, key, len(indent)+2)
	}
}

// whole is a map, empty or not.
func whole(expression string) form {
	return func(indent, key string) string {
		return fmt.Sprintf("%[1]s%[3]s:\n%[1]s  {{- toYaml (%[2]s | default dict) | nindent %[4]d }}\n", indent, expression, key, len(indent)+2)
	}
}

// items are more items of a list.
func items(expression string) form {
	return func(indent, _ string) string {
		return fmt.Sprintf("%[1]s{{- with %[2]s }}\n%[1]s{{- toYaml . | nindent %[3]d }}\n%[1]s{{- end }}\n", indent, expression, len(indent))
	}
}

// item is one item of a list, a text.
func item(text string) form {
	return func(indent, _ string) string { return indent + "- " + text + "\n" }
}

// conditionOf is when an object is there; "" is always.
func conditionOf(o client.Object) string {
	var all []string
	switch o.GetLabels()[install.ComponentLabel] {
	case "eventing":
		all = []string{".Values.eventing.enabled"}
	case "nats":
		all = []string{".Values.eventing.enabled", ".Values.nats.embedded"}
	}
	if o.GetObjectKind().GroupVersionKind().Kind == "NetworkPolicy" {
		all = append(all, ".Values.networkPolicy.enabled")
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return "and " + strings.Join(all, " ")
}

// placesOf are what the chart's values change in an object.
func placesOf(o client.Object) []place {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return placesOfDeployment(o)
	case *appsv1.StatefulSet:
		return placesOfStore(o)
	case *corev1.Service:
		if o.Name == install.GatewayName {
			return placesOfGatewayService()
		}
	case *corev1.ConfigMap:
		// The text of the settings goes before the key that explains them.
		return []place{{"data._", func(indent, _ string) string {
			return items(fmt.Sprintf("index .Values.settings %q", o.Name))(indent, "")
		}}}
	case *networkingv1.NetworkPolicy:
		for i, rule := range o.Spec.Ingress {
			for j, peer := range rule.From {
				if s := peer.NamespaceSelector; s != nil && len(s.MatchLabels) > 0 {
					path := fmt.Sprintf("spec.ingress.%d.from.%d.namespaceSelector.matchLabels", i, j)
					return []place{{path, whole(".Values.networkPolicy.metricsFrom")}}
				}
			}
		}
	}
	return nil
}

func placesOfDeployment(d *appsv1.Deployment) []place {
	part := d.Labels[install.ComponentLabel]
	of := ".Values." + part + "."
	args := d.Spec.Template.Spec.Containers[0].Args
	places := append(placesOfPod(part, args), place{"spec.replicas", value(of + "replicas | int")})
	if part == "eventing" {
		return append(places, placesOfClient(args)...)
	}
	for i, arg := range args {
		if name, _, _ := strings.Cut(arg, "="); name == "--drain-timeout" {
			places = append(places, place{fmt.Sprintf("%sargs.%d", container, i), item(name + "={{ " + of + "drainSeconds | int }}s")})
		}
	}
	if part != "controller" {
		places = append(places, place{podAt + "spec.terminationGracePeriodSeconds", value(fmt.Sprintf("add %d (%sdrainSeconds | int)", install.DrainMargin, of))})
	}
	if part == "gateway" {
		on := of + "hostPort.enabled"
		places = append(places,
			place{container + "ports.0.hostPort", when(on, of+"hostPort.http | int")},
			place{container + "ports.1.hostPort", when(on, of+"hostPort.https | int")},
			place{"spec.strategy.rollingUpdate.maxSurge", value("ternary 0 1 " + on)},
			place{"spec.strategy.rollingUpdate.maxUnavailable", value("ternary 1 0 " + on)},
		)
	}
	return places
}

// Where the pods of a part are, and their container.
const podAt, container = "spec.template.", "spec.template.spec.containers.0."

// placesOfPod are what every part has.
func placesOfPod(part string, args []string) []place {
	of := ".Values." + part + "."
	image, digest := "ebb", ".Values.image.digests.ebb"
	if part == "gateway" {
		image, digest = "ebb-gateway", ".Values.image.digests.gateway"
	}
	return []place{
		{podAt + "metadata.annotations", block(of + "annotations")},
		{podAt + "spec.nodeSelector", block(of + "nodeSelector")},
		{podAt + "spec.tolerations", block(of + "tolerations")},
		{podAt + "spec.imagePullSecrets", block(".Values.image.pullSecrets")},
		{container + "image", value(fmt.Sprintf(`include "ebb.image" (list $ %q %s)`, image, digest))},
		{container + "imagePullPolicy", value(".Values.image.pullPolicy")},
		{container + "resources", block(of + "resources")},
		{fmt.Sprintf("%sargs.%d", container, len(args)), items(of + "args")},
	}
}

func placesOfGatewayService() []place {
	const of = ".Values.gateway.service."
	const outside = `ne .Values.gateway.service.type "ClusterIP"`
	nodePort := func(name string) form {
		return when(fmt.Sprintf("and (%s) %snodePorts.%s", outside, of, name), of+"nodePorts."+name+" | int")
	}
	return []place{
		{"metadata.annotations", block(of + "annotations")},
		{"spec.type", value(of + "type")},
		{"spec.externalTrafficPolicy", when(outside, of+"externalTrafficPolicy")},
		{"spec.loadBalancerClass", when(fmt.Sprintf(`and (eq %stype "LoadBalancer") %sloadBalancerClass`, of, of), of+"loadBalancerClass")},
		{"spec.ports.0.nodePort", nodePort("http")},
		{"spec.ports.1.nodePort", nodePort("https")},
	}
}
