package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"ebb.dev/ebb/apis/settings"
)

// GroupVersion is networking.internal.knative.dev/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "networking.internal.knative.dev", Version: "v1alpha1"}

// KindClusterDomainClaim is the only kind of the group.
const KindClusterDomainClaim = "ClusterDomainClaim"

// AddToScheme registers the kind and its list.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &ClusterDomainClaim{}, &ClusterDomainClaimList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// ClusterDomainClaim gives a domain name, which is its own name, to a namespace: only
// DomainMappings there are served under it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=clusterdomainclaims,singular=clusterdomainclaim,scope=Cluster,shortName=cdc,categories=knative-internal;networking
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.namespace`
type ClusterDomainClaim struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec ClusterDomainClaimSpec `json:"spec,omitzero"`
}

// ClusterDomainClaimList is a list of ClusterDomainClaims.
//
// +kubebuilder:object:root=true
type ClusterDomainClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ClusterDomainClaim `json:"items"`
}

// ClusterDomainClaimSpec says whose the name is.
type ClusterDomainClaimSpec struct {
	// Namespace whose DomainMappings may use the name.
	Namespace string `json:"namespace"`
}

// SetDefaults has nothing to fill in.
func (*ClusterDomainClaim) SetDefaults(*settings.Settings) {}

// Warnings are none.
func (*ClusterDomainClaim) Warnings() []string { return nil }

// Validate lists what is wrong with a ClusterDomainClaim that is about to be stored.
func (c *ClusterDomainClaim) Validate(*settings.Settings) field.ErrorList {
	name, namespace := field.NewPath("metadata", "name"), field.NewPath("spec", "namespace")
	var errs field.ErrorList
	if wrong := utilvalidation.IsFullyQualifiedDomainName(name, c.Name); len(wrong) > 0 {
		errs = append(errs, field.Invalid(name, c.Name, "must be the domain name that is claimed, like www.example.com: "+wrong[0].Detail))
	}
	if c.Spec.Namespace == "" {
		errs = append(errs, field.Required(namespace, "the namespace that the name is for"))
	} else {
		for _, wrong := range validation.ValidateNamespaceName(c.Spec.Namespace, false) {
			errs = append(errs, field.Invalid(namespace, c.Spec.Namespace, wrong))
		}
	}
	return errs
}
