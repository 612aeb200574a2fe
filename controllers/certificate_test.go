package controllers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/certificate"
)

// certificateKind is as much of cert-manager's kind as matters here.
const certificateKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  names: {kind: Certificate, plural: certificates, singular: certificate, listKind: CertificateList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// issued is one Certificate as the API server has it.
func (p *platform) issued(t *testing.T, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(certificate.Kind())
	until(t, "Certificate "+name+" is there", func() error {
		return p.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, u)
	})
	return u
}

// issue plays cert-manager: it says of a Certificate what conditions say.
func (p *platform) issue(t *testing.T, namespace, name string, conditions ...map[string]any) {
	t.Helper()
	u := p.issued(t, namespace, name)
	list := []any{}
	for _, c := range conditions {
		c["observedGeneration"] = u.GetGeneration()
		list = append(list, c)
	}
	if err := unstructured.SetNestedSlice(u.Object, list, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	if err := p.Status().Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

func says2(kind, status, reason, message string) map[string]any {
	return map[string]any{"type": kind, "status": status, "reason": reason, "message": message}
}

// certManager is the certificates of hosts, before cert-manager is there and with a test in its place.
func certManager(t *testing.T, p *platform) {
	ns := p.namespace(t)
	configure := func(name string, data map[string]string) {
		t.Helper()
		m := &corev1.ConfigMap{}
		err := p.Get(t.Context(), client.ObjectKey{Namespace: "ebb-system", Name: name}, m)
		if apierrors.IsNotFound(err) {
			p.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ebb-system", Name: name}, Data: data})
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		update(t, p, m, "ebb-system", name, func(m *corev1.ConfigMap) { m.Data = data })
	}
	defer configure(settings.ConfigNetwork, nil)
	s := p.ready(t, ns, "web")
	host := "web." + ns + ".example.com"
	r := &v1.Route{}
	provisioned := func(status corev1.ConditionStatus, reason, message, url string) *v1.Route {
		t.Helper()
		return eventually(t, p, r, ns, "web", fmt.Sprint("CertificateProvisioned is ", status, " ", reason), func(r *v1.Route) string {
			if r.Status.URL != url {
				return "the URL should be " + url
			}
			return says(r.Status.Conditions, v1.RouteCertificateProvisioned, status, reason, message)
		})
	}
	provisioned(yes, v1.ReasonTLSNotEnabled, "not enabled", "http://"+host)

	// Without cert-manager http goes on, where it may.
	configure(settings.ConfigCertManager, map[string]string{"issuerRef": "{kind: ClusterIssuer, name: ours}"})
	configure(settings.ConfigNetwork, map[string]string{"external-domain-tls": "Enabled", "http-protocol": "Redirected"})
	provisioned(no, v1.ReasonCertificateProvisionFailed, "cert-manager is not installed", "http://"+host)
	configure(settings.ConfigNetwork, map[string]string{"external-domain-tls": "Enabled"})
	provisioned(yes, v1.ReasonHTTPDowngrade, "cert-manager is not installed", "http://"+host)

	// It is installed later.
	kind := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(certificateKind), kind); err != nil {
		t.Fatal(err)
	}
	p.create(t, kind)
	own := "route-" + string(r.UID)
	provisioned(yes, v1.ReasonHTTPDowngrade, "Certificate "+own+" is not ready: cert-manager has not looked at it yet", "http://"+host)
	u := p.issued(t, ns, own)
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	got, _ := json.Marshal(spec)
	if want := `{"dnsNames":["` + host + `"],"issuerRef":{"kind":"ClusterIssuer","name":"ours"},"secretName":"` + own + `"}`; string(got) != want {
		t.Errorf("the Certificate asks for %s, want %s", got, want)
	}
	if owners := u.GetOwnerReferences(); len(owners) != 1 || owners[0].UID != r.UID {
		t.Errorf("its owners are %+v", owners)
	}
	configure(settings.ConfigNetwork, map[string]string{"external-domain-tls": "Enabled", "http-protocol": "Redirected"})
	provisioned(unknown, v1.ReasonCertificateNotReady, "is not ready", "http://"+host)
	p.issue(t, ns, own, says2("Ready", "False", "DoesNotExist", "no secret"), says2("Issuing", "False", "Failed", "the order was refused"))
	provisioned(no, v1.ReasonCertificateProvisionFailed, "failed: the order was refused", "http://"+host)
	p.issue(t, ns, own, says2("Ready", "True", "Ready", ""))
	r = provisioned(yes, "", "", "https://"+host)
	if noted := r.Status.Annotations[serving.CertificatesAnnotation]; noted != `{"`+host+`":"`+own+`"}` {
		t.Errorf("what is noted for the data plane is %s", noted)
	}
	eventually(t, p, s, ns, "web", "the Service shows the URL", func(s *v1.Service) string {
		if s.Status.URL != "https://"+host {
			return s.Status.URL
		}
		return isReady(s)
	})
	// While it is issued again, the host keeps the certificate that it has.
	p.issue(t, ns, own, says2("Ready", "False", "Expired", "is expired"))
	provisioned(unknown, v1.ReasonCertificateNotReady, "Expired: is expired", "https://"+host)
	p.issue(t, ns, own, says2("Ready", "True", "Ready", ""))
	provisioned(yes, "", "", "https://"+host)

	// A tag has one of its own, which goes with the tag.
	update(t, p, s, ns, "web", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100)), Tag: "next"}}
	})
	p.issue(t, ns, own+"-next", says2("Ready", "True", "Ready", ""))
	eventually(t, p, r, ns, "web", "the tag's URL is https", func(r *v1.Route) string {
		if len(r.Status.Traffic) != 1 || r.Status.Traffic[0].URL != "https://next-"+host {
			return fmt.Sprint(r.Status.Traffic)
		}
		return ""
	})
	update(t, p, s, ns, "web", func(s *v1.Service) { s.Spec.Traffic[0].Tag = "" })
	gone := func(name string) {
		t.Helper()
		until(t, "Certificate "+name+" is gone", func() error {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(certificate.Kind())
			if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, u); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there (%w)", err)
			}
			return nil
		})
	}
	gone(own + "-next")

	// A mapping has one when its host is its own.
	mapped1 := ns + ".example.org"
	m := p.mapping(t, ns, mapped1, toService("web"), "")
	mapped(t, p, ns, mapped1, v1beta1.DomainClaimed, no, v1beta1.ReasonDomainClaimFailed, "")
	p.create(t, &v1alpha1.ClusterDomainClaim{ObjectMeta: metav1.ObjectMeta{Name: mapped1}, Spec: v1alpha1.ClusterDomainClaimSpec{Namespace: ns}})
	p.issue(t, ns, "mapping-"+string(m.UID), says2("Ready", "True", "Ready", ""))
	m = mapped(t, p, ns, mapped1, v1.ConditionReady, yes, "", "")
	if m.Status.URL != "https://"+mapped1 || !strings.Contains(m.Status.Annotations[serving.CertificatesAnnotation], "mapping-"+string(m.UID)) {
		t.Errorf("the mapping has URL %s and notes %v", m.Status.URL, m.Status.Annotations)
	}

	// Somebody else's Certificate is left alone.
	wildcard := "wildcard." + ns + ".example.com"
	foreign := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"dnsNames": []any{"somewhere.else"}, "secretName": "theirs"}}}
	foreign.SetGroupVersionKind(certificate.Kind())
	foreign.SetNamespace(ns)
	foreign.SetName(wildcard)
	p.create(t, foreign)

	// One for all hosts of a namespace, which has every Route that uses it as an owner.
	update(t, p, &corev1.Namespace{}, "", ns, func(n *corev1.Namespace) { n.Labels = map[string]string{"wildcard": "yes"} })
	configure(settings.ConfigNetwork, map[string]string{"external-domain-tls": "Enabled", "namespace-wildcard-cert-selector": "matchLabels: {wildcard: \"yes\"}"})
	provisioned(no, "CertificateNotOwned", "Certificate "+wildcard+" exists and does not belong to Ebb", "http://"+host)
	p.remove(t, foreign) // and it is tried again
	p.ready(t, ns, "other")
	until(t, "the wildcard has two owners", func() error {
		u := p.issued(t, ns, wildcard)
		names, _, _ := unstructured.NestedStringSlice(u.Object, "spec", "dnsNames")
		if !slices.Equal(names, []string{"*." + ns + ".example.com"}) || len(u.GetOwnerReferences()) != 2 {
			return fmt.Errorf("%v %v", names, u.GetOwnerReferences())
		}
		return nil
	})
	p.issue(t, ns, wildcard, says2("Ready", "True", "Ready", ""))
	provisioned(yes, "", "", "https://"+host)
	gone(own)

	// By annotation a Service stays without.
	update(t, p, s, ns, "web", func(s *v1.Service) {
		s.Annotations = map[string]string{serving.DisableExternalDomainTLSAnnotation: "true"}
	})
	provisioned(yes, v1.ReasonTLSNotEnabled, "", "http://"+host)
}
