package duck

import (
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// KReference names an object.
type KReference struct {
	// Kind of the object.
	Kind string `json:"kind"`
	// Namespace of the object; the referring object's own where it is left out.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Name of the object.
	Name string `json:"name"`
	// APIVersion of the object.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// Group of the object, where apiVersion is left out.
	// +optional
	Group string `json:"group,omitempty"`
	// Address is the name of one of the object's addresses.
	// +optional
	Address *string `json:"address,omitempty"`
}

// GroupKind of the object.
func (r *KReference) GroupKind() schema.GroupKind {
	group := r.Group
	if r.APIVersion != "" {
		group = ""
		if i := strings.IndexByte(r.APIVersion, '/'); i >= 0 {
			group = r.APIVersion[:i]
		}
	}
	return schema.GroupKind{Group: group, Kind: r.Kind}
}

// SetDefaults fills in the namespace.
func (r *KReference) SetDefaults(namespace string) {
	if r != nil && r.Namespace == "" {
		r.Namespace = namespace
	}
}

// Validate lists what is wrong with a reference.
func (r *KReference) Validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), "the kind of the object, like Service"))
	}
	if r.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "the name of the object"))
	} else if wrong := validation.IsDNS1123Subdomain(r.Name); len(wrong) > 0 {
		errs = append(errs, field.Invalid(path.Child("name"), r.Name, wrong[0]))
	}
	switch {
	case r.APIVersion == "" && r.Group == "":
		errs = append(errs, field.Required(path.Child("apiVersion"), "the version of the object, like "+v1.GroupVersion.String()))
	case r.APIVersion != "" && r.Group != "":
		errs = append(errs, field.Forbidden(path.Child("group"), "apiVersion is given already"))
	case r.APIVersion != "":
		if gv, err := schema.ParseGroupVersion(r.APIVersion); err != nil || gv.Version == "" {
			errs = append(errs, field.Invalid(path.Child("apiVersion"), r.APIVersion, "must be GROUP/VERSION, or VERSION of the core group"))
		}
	}
	if r.Namespace != "" {
		if wrong := validation.IsDNS1123Label(r.Namespace); len(wrong) > 0 {
			errs = append(errs, field.Invalid(path.Child("namespace"), r.Namespace, wrong[0]))
		}
	}
	return errs
}

// Destination is something that takes events: an object with an address, a URI, or a path at the object's address.
type Destination struct {
	// Ref is an object with an address.
	// +optional
	Ref *KReference `json:"ref,omitempty"`
	// URI is absolute, or relative to the address of ref.
	// +optional
	URI string `json:"uri,omitempty"`
	// CACerts is PEM: what the certificate of the destination is verified against.
	// +optional
	CACerts *string `json:"CACerts,omitempty"`
	// Audience of the tokens that the destination takes.
	// +optional
	Audience *string `json:"audience,omitempty"`
}

// Empty says whether nothing is named.
func (d *Destination) Empty() bool { return d == nil || (d.Ref == nil && d.URI == "") }

// SetDefaults fills in the namespace of the reference.
func (d *Destination) SetDefaults(namespace string) {
	if d != nil {
		d.Ref.SetDefaults(namespace)
	}
}

// maxURI bounds a URI, in bytes.
const maxURI = 4 << 10

// Validate lists what is wrong with a destination that has to name something.
func (d *Destination) Validate(path *field.Path) field.ErrorList {
	if d.Empty() {
		return field.ErrorList{field.Required(path, "give ref (an object with an address) or uri")}
	}
	var errs field.ErrorList
	if d.Ref != nil {
		errs = append(errs, d.Ref.Validate(path.Child("ref"))...)
	}
	if d.URI == "" {
		return errs
	}
	at := path.Child("uri")
	u, err := url.Parse(d.URI)
	switch {
	case len(d.URI) > maxURI:
		errs = append(errs, field.TooLong(at, "", maxURI))
	case err != nil:
		errs = append(errs, field.Invalid(at, d.URI, "is not a URI"))
	case d.Ref != nil && u.IsAbs():
		errs = append(errs, field.Invalid(at, d.URI, "must be relative to the address of ref, or ref must be left out"))
	case d.Ref == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
		errs = append(errs, field.Invalid(at, d.URI, "must be absolute, like http://HOST/PATH, where ref is left out"))
	}
	return errs
}

// AddressStatus is where an object takes events.
type AddressStatus struct {
	// Address of the object.
	// +optional
	Address *v1.Addressable `json:"address,omitempty"`
	// Addresses are all of them, by name.
	// +optional
	// +listType=atomic
	Addresses []v1.Addressable `json:"addresses,omitempty"`
}

// AppliedEventPolicyRef names an EventPolicy that holds for an object.
type AppliedEventPolicyRef struct {
	APIVersion string `json:"apiVersion"`
	Name       string `json:"name"`
}

// AppliedEventPoliciesStatus is the EventPolicies that hold for an object. Ebb has none yet; it is never filled.
type AppliedEventPoliciesStatus struct {
	// +optional
	// +listType=atomic
	Policies []AppliedEventPolicyRef `json:"policies,omitempty"`
}

// AuthStatus is the identity that an object sends with. Ebb sends without one; it is never filled.
type AuthStatus struct {
	// +optional
	ServiceAccountName *string `json:"serviceAccountName,omitempty"`
	// +optional
	// +listType=atomic
	ServiceAccountNames []string `json:"serviceAccountNames,omitempty"`
}
