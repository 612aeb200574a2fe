package install

import (
	"maps"
	"slices"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
)

// rights are the accounts of the parts and what they may do. Activators, gateways and the store of events may do nothing: they
// learn all from others. Users' roles are aggregated to view, edit and admin.
func rights(v Values, kinds []*apiextensionsv1.CustomResourceDefinition) []client.Object {
	objects := []client.Object{account(ControllerName, "controller"), account(ActivatorName, "activator"), account(GatewayName, "gateway")}
	objects = append(objects, ControllerRights()...)
	if v.Eventing.Enabled {
		objects = append(objects, account(EventingName, "eventing"))
		objects = append(objects, EventingRights()...)
		if v.NATS.Embedded {
			objects = append(objects, account(NATSName, "nats"))
		}
	}
	return append(objects, userRights(kinds)...)
}

// account mounts no token of itself; pods that need one say so.
func account(name, component string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta: typeMeta(corev1.SchemeGroupVersion, "ServiceAccount"), ObjectMeta: named(name, component),
		AutomountServiceAccountToken: new(false),
	}
}

var (
	read    = []string{"get", "list", "watch"}
	listing = []string{"list", "watch"}
)

func rule(group string, resources, verbs []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs, ResourceNames: names}
}

func one(resource string) []string { return []string{resource} }

// controllerRules are what the controller may do in every namespace. A test lists what it did with them, and fails
// for one that is missing and for one that is of no use.
func controllerRules() []rbacv1.PolicyRule {
	const autoscaling = "autoscaling"
	return []rbacv1.PolicyRule{
		// What users write, and what it makes of it.
		rule(serving.GroupName, one("services"), listing),
		rule(serving.GroupName, one("configurations"), []string{"get", "list", "watch", "create", "patch"}),
		rule(serving.GroupName, one("routes"), []string{"get", "list", "watch", "create", "patch"}),
		rule(serving.GroupName, one("revisions"), []string{"get", "list", "watch", "create", "patch", "delete"}),
		rule(serving.GroupName, one("domainmappings"), listing),
		rule(serving.GroupName, []string{"services/status", "configurations/status", "routes/status", "revisions/status", "domainmappings/status"}, []string{"patch"}),
		// An object whose owner is another one blocks its deletion, which some clusters allow only with this right.
		rule(serving.GroupName, []string{"services/finalizers", "configurations/finalizers", "routes/finalizers", "revisions/finalizers", "domainmappings/finalizers"}, []string{"update"}),
		rule(v1alpha1.GroupVersion.Group, one("clusterdomainclaims"), []string{"get", "list", "watch", "create", "delete"}),
		// Pods of Revisions: their Deployments, how many, which are to go first. Pods are only ever created as a dry run.
		rule("apps", one("deployments"), []string{"get", "list", "watch", "create", "patch"}),
		rule("apps", one("deployments/scale"), []string{"patch"}),
		rule("", one("pods"), []string{"list", "watch", "create", "patch"}),
		rule(autoscaling, one("horizontalpodautoscalers"), []string{"get", "list", "watch", "create", "patch", "delete"}),
		// The names of Routes inside the cluster.
		rule("", one("services"), []string{"get", "list", "watch", "create", "patch", "delete"}),
		// Certificates of hosts, and the Secrets with which images are pulled.
		rule("", one("secrets"), read),
		rule("", one("serviceaccounts"), []string{"get"}),
		rule("cert-manager.io", one("certificates"), []string{"list", "watch", "create", "patch", "delete"}),
		rule("", one("namespaces"), listing),
		rule("events.k8s.io", one("events"), []string{"create", "patch"}),
		// The authority of admission's certificate, which it writes into these two only.
		rule(admissionregistration.GroupName, []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"}, listing),
		rule(admissionregistration.GroupName, one("mutatingwebhookconfigurations"), []string{"get", "update"}, admission.MutatingName),
		rule(admissionregistration.GroupName, one("validatingwebhookconfigurations"), []string{"get", "update"}, admission.ValidatingName),
	}
}

// ownRules are what the controller may do in its own namespace.
func ownRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		// Settings, and the list of activators.
		rule("", one("configmaps"), read),
		rule("", one("configmaps"), []string{"create"}),
		rule("", one("configmaps"), []string{"update"}, ActivatorsConfigMap),
		// The certificates of all parts, and the authority that signs them.
		rule("", one("secrets"), []string{"create"}),
		rule("", one("secrets"), []string{"update"}, SecretNames()...),
		rule("coordination.k8s.io", one("leases"), []string{"create"}),
		rule("coordination.k8s.io", one("leases"), []string{"get", "update"}, LeaseName),
		// Who leads, as an Event of the lease.
		rule("", one("events"), []string{"create"}),
	}
}

const (
	// ActivatorsConfigMap keeps who the activators are, for the next leader.
	ActivatorsConfigMap = "ebb-activators"
	// LeaseName is of the Lease that the controller which leads holds.
	LeaseName = ControllerName
)

// SecretNames are of the Secrets that the controller makes: the authority, and a certificate for each part and for admission.
func SecretNames() []string {
	return []string{"ebb-ca", "ebb-controller-tls", "ebb-activator-tls", "ebb-gateway-tls", "ebb-webhook-tls", EventingSecret, natsSecret}
}

// ControllerRights are the controller's roles and their bindings.
func ControllerRights() []client.Object {
	return partRights(ControllerName, "controller", controllerRules(), ownRules())
}

// partRights are what the account of a part may do everywhere and in its own namespace.
func partRights(name, component string, everywhere, own []rbacv1.PolicyRule) []client.Object {
	return []client.Object{
		&rbacv1.ClusterRole{TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "ClusterRole"), ObjectMeta: clusterNamed(name, component), Rules: everywhere},
		clusterBinding(name, name, component),
		&rbacv1.Role{TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "Role"), ObjectMeta: named(name, component), Rules: own},
		&rbacv1.RoleBinding{
			TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "RoleBinding"), ObjectMeta: named(name, component), Subjects: subjects(name),
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		},
	}
}

func subjects(name string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: Namespace}}
}

// clusterNamed is the metadata of a part's object that is in no namespace.
func clusterNamed(name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{ComponentLabel: component}}
}

// clusterBinding gives a ClusterRole to the account of a part.
func clusterBinding(role, account, component string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "ClusterRoleBinding"), ObjectMeta: clusterNamed(role, component), Subjects: subjects(account),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}

// userRights are what the usual roles mean for Ebb's kinds, and a role for those who run Ebb.
func userRights(kinds []*apiextensionsv1.CustomResourceDefinition) []client.Object {
	role := func(name string, to []string, rules ...rbacv1.PolicyRule) client.Object {
		labels := map[string]string{}
		for _, of := range to {
			labels["rbac.authorization.k8s.io/aggregate-to-"+of] = "true"
		}
		return &rbacv1.ClusterRole{TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "ClusterRole"), ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Rules: rules}
	}
	byGroup := map[string][]string{}
	for _, kind := range kinds {
		if kind.Spec.Scope == apiextensionsv1.NamespaceScoped {
			byGroup[kind.Spec.Group] = append(byGroup[kind.Spec.Group], kind.Spec.Names.Plural)
		}
	}
	var view, edit []rbacv1.PolicyRule
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		view = append(view, rule(group, byGroup[group], read))
		edit = append(edit, rule(group, byGroup[group], []string{"create", "update", "patch", "delete", "deletecollection"}))
	}
	return []client.Object{
		role("ebb-view", []string{"view"}, view...),
		role("ebb-edit", []string{"edit"}, edit...),
		// What `ebb status` and `ebb explain` ask of the controller. Bound to nobody.
		&rbacv1.Role{
			TypeMeta: typeMeta(rbacv1.SchemeGroupVersion, "Role"), ObjectMeta: named("ebb-observer", "controller"),
			Rules: []rbacv1.PolicyRule{
				rule("", one("pods"), []string{"get", "list"}),
				rule("", one("pods/proxy"), []string{"get"}),
				rule("coordination.k8s.io", one("leases"), []string{"get"}, LeaseName),
			},
		},
	}
}
