package v1beta1

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// SetDefaults fills in the namespace of the reference.
func (m *DomainMapping) SetDefaults(*settings.Settings) {
	if m.Spec.Ref.Namespace == "" {
		m.Spec.Ref.Namespace = m.Namespace
	}
}

// Warnings are none.
func (m *DomainMapping) Warnings() []string { return nil }

// Validate lists what is wrong with a DomainMapping that is about to be stored.
func (m *DomainMapping) Validate(st *settings.Settings) field.ErrorList {
	meta, ref := field.NewPath("metadata"), field.NewPath("spec", "ref")
	var errs field.ErrorList
	if m.GenerateName != "" {
		errs = append(errs, field.Forbidden(meta.Child("generateName"), "the name is the host that is served: give metadata.name"))
	}
	if m.Name != "" || m.GenerateName == "" {
		errs = append(errs, validateHost(m.Name, st, meta.Child("name"))...)
	}
	errs = append(errs, v1.ValidateHostAnnotations(m.Annotations, meta.Child("annotations"))...)

	if m.Spec.Ref.Kind == "" {
		errs = append(errs, field.Required(ref.Child("kind"), "Service or Route"))
	}
	switch {
	case m.Spec.Ref.APIVersion == "" && m.Spec.Ref.Group == "":
		errs = append(errs, field.Required(ref.Child("apiVersion"), v1.GroupVersion.String()+" for a Service or a Route"))
	case m.Spec.Ref.APIVersion != "" && m.Spec.Ref.Group != "":
		errs = append(errs, field.Forbidden(ref.Child("group"), "apiVersion is given already"))
	}
	if m.Spec.Ref.Name == "" {
		errs = append(errs, field.Required(ref.Child("name"), "the name of the object"))
	} else if wrong := validation.IsDNS1123Subdomain(m.Spec.Ref.Name); len(wrong) > 0 {
		errs = append(errs, field.Invalid(ref.Child("name"), m.Spec.Ref.Name, wrong[0]))
	}
	if n := m.Spec.Ref.Namespace; n != "" && n != m.Namespace {
		errs = append(errs, field.Invalid(ref.Child("namespace"), n,
			fmt.Sprintf("must be the namespace of the DomainMapping, %q: traffic does not cross namespaces", m.Namespace)))
	}
	if m.Spec.TLS != nil {
		name := field.NewPath("spec", "tls", "secretName")
		if m.Spec.TLS.SecretName == "" {
			errs = append(errs, field.Required(name, "a Secret of type kubernetes.io/tls in this namespace"))
		} else if wrong := validation.IsDNS1123Subdomain(m.Spec.TLS.SecretName); len(wrong) > 0 {
			errs = append(errs, field.Invalid(name, m.Spec.TLS.SecretName, wrong[0]))
		}
	}
	return errs
}

// validateHost checks that a name is a host outside the cluster that no Route can have.
func validateHost(name string, st *settings.Settings, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "the host name that is to be served, like www.example.com")}
	}
	if wrong := validation.IsFullyQualifiedDomainName(path, name); len(wrong) > 0 {
		return field.ErrorList{field.Invalid(path, name, "must be a domain name of at least two labels, like www.example.com: "+wrong[0].Detail)}
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if len(label) > validation.DNS1123LabelMaxLength {
			return field.ErrorList{field.Invalid(path, name, fmt.Sprintf("%q is longer than %d characters", label, validation.DNS1123LabelMaxLength))}
		}
	}
	if name == settings.ClusterLocalDomain || strings.HasSuffix(name, "."+settings.ClusterDomain) || name == settings.ClusterDomain {
		return field.ErrorList{field.Invalid(path, name, "names under "+settings.ClusterDomain+" belong to the cluster: choose one outside")}
	}
	if namespace, taken := st.RouteHost(name); taken {
		return field.ErrorList{field.Invalid(path, name, fmt.Sprintf(
			"has the form of the hosts that %s/domain-template gives to Routes of namespace %q: choose another name", settings.ConfigNetwork, namespace))}
	}
	return nil
}
