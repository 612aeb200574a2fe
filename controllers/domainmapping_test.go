package controllers_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
)

func (p *platform) mapping(t *testing.T, namespace, host string, ref v1beta1.KReference, secret string) *v1beta1.DomainMapping {
	t.Helper()
	m := &v1beta1.DomainMapping{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: host}}
	m.Spec.Ref = ref
	if secret != "" {
		m.Spec.TLS = &v1beta1.SecretTLS{SecretName: secret}
	}
	p.create(t, m)
	return m
}

func toService(name string) v1beta1.KReference {
	return v1beta1.KReference{Kind: "Service", APIVersion: "serving.knative.dev/v1", Name: name}
}

// mapped waits until a condition of a mapping is as wanted.
func mapped(t *testing.T, p *platform, namespace, host, kind string, status corev1.ConditionStatus, reason, message string) *v1beta1.DomainMapping {
	t.Helper()
	return eventually(t, p, &v1beta1.DomainMapping{}, namespace, host, fmt.Sprint(kind, " is ", status, " ", reason), func(m *v1beta1.DomainMapping) string {
		if m.Status.ObservedGeneration != m.Generation {
			return "the generation is not observed"
		}
		return says(m.Status.Conditions, kind, status, reason, message)
	})
}

func (p *platform) remove(t *testing.T, o client.Object) {
	t.Helper()
	if err := p.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// domainMappings is what a mapping says of its claim, its reference, its certificate and the gateways.
func domainMappings(t *testing.T, p *platform, ns string) {
	one, two := ns+"-a.example.org", ns+"-b.example.org"

	// Claims by hand, as is the default.
	p.mapping(t, ns, one, toService("web"), "")
	mapped(t, p, ns, one, v1beta1.DomainClaimed, no, v1beta1.ReasonDomainClaimFailed, "a cluster administrator makes one with spec.namespace "+ns)
	mapped(t, p, ns, one, v1beta1.ReferenceResolved, no, v1beta1.ReasonResolveFailed, "Service "+ns+"/web not found")
	claim := &v1alpha1.ClusterDomainClaim{ObjectMeta: metav1.ObjectMeta{Name: one}, Spec: v1alpha1.ClusterDomainClaimSpec{Namespace: "somebody-else"}}
	p.create(t, claim)
	mapped(t, p, ns, one, v1beta1.DomainClaimed, no, v1beta1.ReasonDomainAlreadyClaimed, "gives the host to namespace somebody-else")
	update(t, p, claim, "", one, func(c *v1alpha1.ClusterDomainClaim) { c.Spec.Namespace = ns })
	mapped(t, p, ns, one, v1beta1.DomainClaimed, yes, "", "")

	service := p.service(ns, "web", "app:v1")
	p.create(t, service)
	mapped(t, p, ns, one, v1beta1.ReferenceResolved, unknown, v1beta1.ReasonResolveFailed, "has no traffic yet")
	p.pod(t, ns, "web-00001", "web-1", up)
	m := mapped(t, p, ns, one, v1.ConditionReady, yes, "", "")
	if want := "http://" + one; m.Status.URL != want || m.Status.Address == nil || m.Status.Address.URL != want {
		t.Errorf("url %q, address %+v, want %s", m.Status.URL, m.Status.Address, want)
	}
	if why := says(m.Status.Conditions, v1beta1.CertificateProvisioned, yes, v1.ReasonTLSNotEnabled, "not enabled"); why != "" {
		t.Error(why)
	}
	// A claim by hand stays when the mapping goes.
	p.remove(t, m)

	// By the other names of the Route, and to nowhere.
	for ref, want := range map[v1beta1.KReference]string{
		{Kind: "Route", APIVersion: "serving.knative.dev/v1", Name: "web"}:                      "",
		{Kind: "Service", APIVersion: "v1", Name: "web"}:                                        "",
		{Kind: "Service", Group: "serving.knative.dev", Name: "web"}:                            "",
		{Kind: "Route", APIVersion: "serving.knative.dev/v1", Name: "none"}:                     "Route " + ns + "/none not found",
		{Kind: "Service", APIVersion: "v1", Name: "none"}:                                       "core Service " + ns + "/none not found",
		{Kind: "Broker", APIVersion: "eventing.knative.dev/v1", Name: "web"}:                    "leads to a Service or a Route of serving.knative.dev/v1",
		{Kind: "Service", APIVersion: "serving.knative.dev/v1", Name: "web", Namespace: "away"}: "must be the namespace of the DomainMapping",
	} {
		m := p.mapping(t, ns, one, ref, "")
		if want == "" {
			mapped(t, p, ns, one, v1.ConditionReady, yes, "", "")
		} else {
			mapped(t, p, ns, one, v1beta1.ReferenceResolved, no, v1beta1.ReasonResolveFailed, want)
			mapped(t, p, ns, one, v1beta1.IngressReady, unknown, v1.ReasonIngressNotConfigured, "")
		}
		p.remove(t, m)
	}
	if err := p.Get(t.Context(), client.ObjectKey{Name: one}, claim); err != nil || claim.DeletionTimestamp != nil {
		t.Errorf("the claim by hand: %v %v", claim.DeletionTimestamp, err)
	}

	// Certificates, as the data plane sees them.
	p.mapping(t, ns, one, toService("web"), "cert")
	mapped(t, p, ns, one, v1beta1.CertificateProvisioned, unknown, v1.ReasonCertificateNotReady, "Secret cert is not read yet")
	for _, c := range []struct {
		certificateState
		status                  corev1.ConditionStatus
		reason, message, scheme string
	}{
		{certificateState{known: true, problem: "secret x/cert does not exist"}, no, v1.ReasonCertificateProvisionFailed, "There is no https: secret x/cert does not exist.", "http"},
		{certificateState{known: true, served: true}, yes, v1beta1.ReasonCertificateExternallyProvided, "Secret cert", "https"},
		{certificateState{known: true, served: true, problem: "the certificate is for y"}, no, v1.ReasonCertificateProvisionFailed, "is for y", "https"},
		{certificateState{off: true}, yes, v1.ReasonHTTPDowngrade, "No gateway listens with TLS", "http"},
	} {
		p.gateways.certificate(ns, "cert", c.certificateState)
		p.gateways.mappingChanges <- event.GenericEvent{Object: &v1beta1.DomainMapping{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: one}}}
		m := mapped(t, p, ns, one, v1beta1.CertificateProvisioned, c.status, c.reason, c.message)
		if want := c.scheme + "://" + one; m.Status.URL != want {
			t.Errorf("%s: url %s, want %s", c.message, m.Status.URL, want)
		}
	}
	mapped(t, p, ns, one, v1.ConditionReady, yes, "", "")

	// What the gateways say.
	p.gateways.mu.Lock()
	p.gateways.mappings[ns+"/"+two] = state{connected: 1, rejected: []string{"host is served by route x/y, which is older"}}
	p.gateways.mu.Unlock()
	p.create(t, &v1alpha1.ClusterDomainClaim{ObjectMeta: metav1.ObjectMeta{Name: two}, Spec: v1alpha1.ClusterDomainClaimSpec{Namespace: ns}})
	p.mapping(t, ns, two, toService("web"), "")
	mapped(t, p, ns, two, v1.ConditionReady, no, v1.ReasonRejected, "served by route x/y")

	// The target goes.
	p.remove(t, service)
	mapped(t, p, ns, one, v1beta1.ReferenceResolved, no, v1beta1.ReasonResolveFailed, "Service "+ns+"/web not found")
}

// claimsMade: with autocreate the first mapping of a host has it, the second is told who has
// it and gets it when the first goes, and at the end nothing is left.
func claimsMade(t *testing.T, p *platform) {
	first, second := p.namespace(t), p.namespace(t)
	host := first + ".example.net"
	network := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: settings.ConfigNetwork, Namespace: "ebb-system"}, Data: map[string]string{"autocreate-cluster-domain-claims": "true"}}
	p.create(t, network)
	autocreate := func(want bool) {
		until(t, "the setting is read", func() error {
			if p.store.Load().Network.AutocreateClusterDomainClaims != want {
				return fmt.Errorf("not yet")
			}
			return nil
		})
	}
	autocreate(true)
	a := p.mapping(t, first, host, toService("web"), "")
	mapped(t, p, first, host, v1beta1.DomainClaimed, yes, "", "")
	claim := &v1alpha1.ClusterDomainClaim{}
	if err := p.Get(t.Context(), client.ObjectKey{Name: host}, claim); err != nil || claim.Spec.Namespace != first || claim.Labels[serving.AutocreatedLabel] != "true" {
		t.Errorf("the claim is %+v, %v", claim, err)
	}
	b := p.mapping(t, second, host, toService("web"), "")
	mapped(t, p, second, host, v1.ConditionReady, no, v1beta1.ReasonDomainAlreadyClaimed, "to namespace "+first+"; choose another name")
	p.remove(t, a)
	mapped(t, p, second, host, v1beta1.DomainClaimed, yes, "", "")
	p.remove(t, network)
	autocreate(false)
	p.remove(t, b)
	until(t, "no claim is left", func() error {
		err := p.Get(t.Context(), client.ObjectKey{Name: host}, &v1alpha1.ClusterDomainClaim{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%w)", err)
	})
}

// certificateState is what the gateways have of a Secret.
type certificateState struct {
	served, known, off bool
	problem            string
}

func (g *gateways) certificate(namespace, secret string, s certificateState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.certificates[namespace+"/"+secret] = s
	g.noTLS = s.off
}

func (g *gateways) CertificateState(namespace, secret, _ string) (served, known bool, problem string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.certificates[namespace+"/"+secret]
	return s.served, s.known, s.problem
}

func (g *gateways) TLS() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.noTLS
}

func (g *gateways) MappingState(namespace, name string) (int, int, []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s, ok := g.mappings[namespace+"/"+name]; ok {
		return s.connected, s.pending, s.rejected
	}
	return 1, 0, nil
}

func (g *gateways) MappingChanges() <-chan event.GenericEvent { return g.mappingChanges }
