package install

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/apis/serving"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
)

// Labels of ClusterRoles whose rules the eventing part gets too, as the public project spells them: to read objects
// of other kinds that have an address, and to write the address of a sink into pod templates of other kinds.
const (
	AddressableLabel  = "duck.knative.dev/addressable"
	PodSpecableLabel  = "duck.knative.dev/podspecable"
	AddressableRole   = "ebb-eventing-addressable"
	PodSpecableRole   = "ebb-eventing-podspecable"
	eventingComponent = "eventing"
)

// EventingRights are the roles of the eventing part and their bindings.
func EventingRights() []client.Object {
	objects := partRights(EventingName, eventingComponent, eventingRules(), eventingOwnRules())
	return append(objects,
		aggregated(AddressableRole, AddressableLabel), clusterBinding(AddressableRole, EventingName, eventingComponent),
		aggregated(PodSpecableRole, PodSpecableLabel), clusterBinding(PodSpecableRole, EventingName, eventingComponent),
	)
}

// aggregated is a role whose rules Kubernetes puts together from those that have the label.
func aggregated(name, label string) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "ClusterRole"), ObjectMeta: clusterNamed(name, eventingComponent),
		AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{label: "true"}}}},
	}
}

// eventingRules are what the eventing part may do in every namespace. A test lists what it did with them, as with the controller's.
func eventingRules() []rbacv1.PolicyRule {
	events, messaging, flows, sources := eventingv1.GroupVersion.Group, messagingv1.GroupVersion.Group, flowsv1.GroupVersion.Group, sourcesv1.GroupVersion.Group
	status := func(resources ...string) []string {
		for i := range resources {
			resources[i] += "/status"
		}
		return resources
	}
	return []rbacv1.PolicyRule{
		// What users write. Patch is for the finalizer of what has something in the store, or in another object.
		rule(events, []string{"brokers", "triggers"}, []string{"list", "watch", "patch"}),
		rule(events, one("eventtypes"), []string{"list", "watch", "create"}),
		rule(messaging, []string{"channels", "subscriptions"}, []string{"get", "list", "watch", "create", "patch", "delete"}),
		rule(flows, []string{"sequences", "parallels"}, listing),
		rule(sources, []string{"pingsources", "apiserversources", "containersources", "sinkbindings"}, listing),
		rule(sources, one("sinkbindings"), []string{"patch"}),
		rule(events, status("brokers", "triggers", "eventtypes"), []string{"patch"}),
		rule(messaging, status("channels", "subscriptions"), []string{"patch"}),
		rule(flows, status("sequences", "parallels"), []string{"patch"}),
		rule(sources, status("pingsources", "apiserversources", "containersources", "sinkbindings"), []string{"patch"}),
		// An object whose owner is another one blocks its deletion, which some clusters allow only with this right.
		rule(events, one("brokers/finalizers"), []string{"update"}),
		rule(flows, []string{"sequences/finalizers", "parallels/finalizers"}, []string{"update"}),
		rule(sources, one("containersources/finalizers"), []string{"update"}),
		// What a Trigger may wait for before it is ready (knative.dev/dependency).
		rule(events, []string{"brokers", "triggers"}, []string{"get"}),
		rule(sources, []string{"pingsources", "apiserversources", "containersources", "sinkbindings"}, []string{"get"}),
		// What destinations refer to. Other kinds are read with the rules of AddressableRole.
		rule(serving.GroupName, []string{"services", "routes"}, listing),
		rule("", one("services"), listing),
		// ContainerSources are Deployments.
		rule("apps", one("deployments"), []string{"get", "list", "watch", "create", "patch"}),
		// Pod templates that SinkBindings name. Other kinds are changed with the rules of PodSpecableRole.
		rule("apps", []string{"statefulsets", "daemonsets", "replicasets"}, []string{"get", "list", "patch"}),
		rule("batch", []string{"jobs", "cronjobs"}, []string{"get", "list", "patch"}),
		rule(serving.GroupName, []string{"services", "configurations"}, []string{"get", "list", "patch"}),
		// An ApiServerSource reads with the permissions of its own service account, which is acted as.
		rule("", one("serviceaccounts"), []string{"impersonate"}),
		rule("", one("namespaces"), listing),
		rule("events.k8s.io", one("events"), []string{"create", "patch"}),
	}
}

// eventingOwnRules are what it may do in its own namespace.
func eventingOwnRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("", one("configmaps"), read),
		rule("coordination.k8s.io", one("leases"), []string{"create"}),
		rule("coordination.k8s.io", one("leases"), []string{"get", "update"}, EventingName),
		// Who leads, as an Event of the lease.
		rule("", one("events"), []string{"create"}),
	}
}
