package certificate

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

// Kind is cert-manager's Certificate.
func Kind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}
}

// Want is one certificate that an owner wants.
type Want struct {
	// Name of the Certificate, and of the Secret that it is put into.
	Name string
	// Hosts that it is for; one may be a wildcard.
	Hosts []string
}

// State is what cert-manager says of a Certificate.
type State struct {
	Ready   bool
	Failed  bool   // it was tried, and is not tried again soon
	Foreign bool   // somebody else made one of its name
	Message string // for people, where it is not Ready
}

// Owner is the object that certificates are for: they go with the last of their owners.
type Owner struct {
	Kind schema.GroupVersionKind
	metav1.Object
}

// make returns the Certificate as it should be.
func makeCertificate(owner Owner, want Want, issuer settings.IssuerRef) *unstructured.Unstructured {
	hosts := make([]any, len(want.Hosts))
	for i, h := range slices.Sorted(slices.Values(want.Hosts)) {
		hosts[i] = h
	}
	ref := map[string]any{"name": issuer.Name, "kind": issuer.Kind}
	if issuer.Group != "" {
		ref["group"] = issuer.Group
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		// There is no common name: it may have 64 bytes only, and clients look at the DNS names.
		"spec": map[string]any{"dnsNames": hosts, "secretName": want.Name, "issuerRef": ref},
	}}
	u.SetGroupVersionKind(Kind())
	u.SetNamespace(owner.GetNamespace())
	u.SetName(want.Name)
	u.SetLabels(map[string]string{serving.CertificateLabel: "true"})
	u.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: owner.Kind.GroupVersion().String(), Kind: owner.Kind.Kind, Name: owner.GetName(), UID: owner.GetUID(),
	}})
	return u
}

// same says whether a stored Certificate has what is wanted of it.
func same(have, want *unstructured.Unstructured) bool {
	if have.GetLabels()[serving.CertificateLabel] != "true" || !ownedBy(have, want.GetOwnerReferences()[0].UID) {
		return false
	}
	spec, _, _ := unstructured.NestedMap(have.Object, "spec")
	wanted, _, _ := unstructured.NestedMap(want.Object, "spec")
	for field, value := range wanted {
		if !equality.Semantic.DeepEqual(spec[field], value) {
			return false
		}
	}
	return true
}

func ownedBy[UID ~string](o *unstructured.Unstructured, uid UID) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return string(r.UID) == string(uid) })
}

// stateOf reads what cert-manager says of a Certificate.
func stateOf(u *unstructured.Unstructured) State {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	state := State{Message: "cert-manager has not looked at it yet"}
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		text := func(field string) string { s, _ := condition[field].(string); return s }
		generation, ok := condition["observedGeneration"].(int64)
		if ok && generation < u.GetGeneration() {
			continue // it speaks of what was wanted before
		}
		switch {
		case text("type") == "Ready" && text("status") == "True":
			return State{Ready: true}
		case text("type") == "Ready":
			state.Message = fmt.Sprintf("%s: %s", text("reason"), text("message"))
		case text("type") == "Issuing" && text("status") == "False" && text("reason") == "Failed":
			return State{Failed: true, Message: text("message")}
		}
	}
	return state
}
