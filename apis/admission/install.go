package admission

import (
	"fmt"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	eventingv1beta2 "ebb.dev/ebb/apis/eventing/v1beta2"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
)

// Names of the two webhook configurations.
const (
	MutatingName   = "serving.admission.ebb.dev"
	ValidatingName = "validation.serving.admission.ebb.dev"
	// SettingsName is the webhook for ConfigMaps, in the validating configuration.
	SettingsName = "settings.admission.ebb.dev"
)

// timeoutSeconds is how long the API server waits for an answer.
const timeoutSeconds = 10

// Target is where the API server finds the webhook server: URL, its base such as
// https://127.0.0.1:9443, or a Service of the cluster.
type Target struct {
	URL string
	// Service is used where URL is empty.
	Namespace, Service string
	Port               int32
	// CABundle is PEM: what the server's certificate is verified against.
	CABundle []byte
	// Controller is the user name of Ebb's controller, whose own writes are not asked
	// about: what it makes is made of what was admitted. Empty for nobody.
	Controller string
	// Eventing is the user name of `ebb eventing`, likewise.
	Eventing string
}

// Configurations returns what tells the API server to ask admission, complete with
// kind and apiVersion.
func Configurations(target Target) (*admissionregistration.MutatingWebhookConfiguration, *admissionregistration.ValidatingWebhookConfiguration) {
	fail, none := admissionregistration.Fail, admissionregistration.SideEffectClassNone
	equivalent, again := admissionregistration.Equivalent, admissionregistration.IfNeededReinvocationPolicy
	namespaced, timeout := admissionregistration.NamespacedScope, int32(timeoutSeconds)
	cluster := admissionregistration.ClusterScope
	// Subresources are not listed: a status is never asked about.
	rule := func(of schema.GroupVersion, scope *admissionregistration.ScopeType, resources ...string) admissionregistration.RuleWithOperations {
		return admissionregistration.RuleWithOperations{
			Operations: []admissionregistration.OperationType{admissionregistration.Create, admissionregistration.Update},
			Rule: admissionregistration.Rule{
				APIGroups: []string{of.Group}, APIVersions: []string{of.Version}, Resources: resources, Scope: scope,
			},
		}
	}
	rules := []admissionregistration.RuleWithOperations{
		rule(v1.GroupVersion, &namespaced, "configurations", "revisions", "routes", "services"),
		rule(v1beta1.GroupVersion, &namespaced, "domainmappings"),
		rule(v1alpha1.GroupVersion, &cluster, "clusterdomainclaims"),
		rule(eventingv1.GroupVersion, &namespaced, "brokers", "triggers"),
		rule(eventingv1beta2.GroupVersion, &namespaced, "eventtypes"),
		rule(messagingv1.GroupVersion, &namespaced, "channels", "subscriptions"),
		rule(flowsv1.GroupVersion, &namespaced, "sequences", "parallels"),
		rule(sourcesv1.GroupVersion, &namespaced, "pingsources", "apiserversources", "containersources", "sinkbindings"),
	}
	versions := []string{"v1"}
	labels := map[string]string{"app.kubernetes.io/part-of": "ebb"}
	mutating := &admissionregistration.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistration.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: MutatingName, Labels: labels},
		Webhooks: []admissionregistration.MutatingWebhook{{
			Name:                    MutatingName,
			ClientConfig:            target.client(MutatePath),
			Rules:                   rules,
			FailurePolicy:           &fail,
			MatchPolicy:             &equivalent,
			ReinvocationPolicy:      &again,
			MatchConditions:         target.others(),
			SideEffects:             &none,
			TimeoutSeconds:          &timeout,
			AdmissionReviewVersions: versions,
		}},
	}
	validating := &admissionregistration.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistration.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: ValidatingName, Labels: labels},
		Webhooks: []admissionregistration.ValidatingWebhook{{
			Name:                    ValidatingName,
			ClientConfig:            target.client(ValidatePath),
			Rules:                   rules,
			FailurePolicy:           &fail,
			MatchPolicy:             &equivalent,
			MatchConditions:         target.others(),
			SideEffects:             &none,
			TimeoutSeconds:          &timeout,
			AdmissionReviewVersions: versions,
		}, target.settings()},
	}
	return mutating, validating
}

// settings asks about the ConfigMaps of Ebb's namespace. It is left out where nobody
// answers: the settings are needed to start whoever would.
func (t Target) settings() admissionregistration.ValidatingWebhook {
	ignore, none := admissionregistration.Ignore, admissionregistration.SideEffectClassNone
	namespaced, timeout := admissionregistration.NamespacedScope, int32(timeoutSeconds)
	return admissionregistration.ValidatingWebhook{
		Name:         SettingsName,
		ClientConfig: t.client(SettingsPath),
		Rules: []admissionregistration.RuleWithOperations{{
			Operations: []admissionregistration.OperationType{admissionregistration.Create, admissionregistration.Update},
			Rule:       admissionregistration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}, Scope: &namespaced},
		}},
		NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: t.namespace()}},
		FailurePolicy:           &ignore,
		SideEffects:             &none,
		TimeoutSeconds:          &timeout,
		AdmissionReviewVersions: []string{"v1"},
	}
}

// others matches the requests of everybody but Ebb's own programs.
func (t Target) others() []admissionregistration.MatchCondition {
	var conditions []admissionregistration.MatchCondition
	for _, own := range []struct{ name, user string }{{"not-of-the-controller", t.Controller}, {"not-of-eventing", t.Eventing}} {
		if own.user != "" {
			conditions = append(conditions, admissionregistration.MatchCondition{
				Name: own.name, Expression: fmt.Sprintf("request.userInfo.username != %q", own.user),
			})
		}
	}
	return conditions
}

func (t Target) namespace() string {
	if t.Namespace == "" {
		return serving.Namespace
	}
	return t.Namespace
}

func (t Target) client(path string) admissionregistration.WebhookClientConfig {
	config := admissionregistration.WebhookClientConfig{CABundle: t.CABundle}
	if t.URL != "" {
		url := t.URL + path
		config.URL = &url
		return config
	}
	config.Service = &admissionregistration.ServiceReference{Namespace: t.Namespace, Name: t.Service, Path: &path}
	if t.Port != 0 {
		config.Service.Port = &t.Port
	}
	return config
}
