package settings

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
)

// Values of Network.HTTPProtocol and Network.ExternalDomainTLS.
const (
	Enabled    = "Enabled"
	Disabled   = "Disabled"
	Redirected = "Redirected"
)

// maxHost is the most bytes a host name may have.
const maxHost = 253

// Network is config-network.
type Network struct {
	// ExternalDomainTLS is Enabled or Disabled.
	ExternalDomainTLS string
	// HTTPProtocol of hosts with a certificate: Enabled, or Redirected to HTTPS.
	HTTPProtocol string
	// DefaultExternalScheme of URLs: http or https.
	DefaultExternalScheme string
	// ExternalPort is the port in external URLs, "" for the scheme's own.
	ExternalPort string
	// ExternalHTTPSPort is the port in external https URLs, 0 for the scheme's own.
	ExternalHTTPSPort uint16
	// RolloutDuration is how long a Route takes to its new latest Revision; 0 is at once.
	RolloutDuration time.Duration
	// AutocreateClusterDomainClaims lets a DomainMapping claim its domain itself.
	AutocreateClusterDomainClaims bool
	// CertificateClass says who provides certificates.
	CertificateClass string
	// NamespaceWildcardCertSelector picks the namespaces that get a wildcard certificate;
	// nothing by default.
	NamespaceWildcardCertSelector labels.Selector

	domain *template.Template
	tag    *template.Template
}

func parseNetwork(p *parser) Network {
	n := Network{
		ExternalDomainTLS:             Disabled,
		HTTPProtocol:                  Enabled,
		DefaultExternalScheme:         "http",
		NamespaceWildcardCertSelector: labels.Nothing(),
	}
	p.oneOf("external-domain-tls", &n.ExternalDomainTLS, []string{Enabled, Disabled}, "auto-tls", "autoTLS")
	p.oneOf("http-protocol", &n.HTTPProtocol, []string{Enabled, Redirected}, "httpProtocol")
	p.oneOf("default-external-scheme", &n.DefaultExternalScheme, []string{"http", "https"}, "defaultExternalScheme")
	p.text("external-port", &n.ExternalPort)
	p.port("external-port", n.ExternalPort)
	httpsPort := ""
	p.text("external-https-port", &httpsPort)
	n.ExternalHTTPSPort = p.port("external-https-port", httpsPort)
	p.duration("rollout-duration", &n.RolloutDuration, 0, 30*24*time.Hour, "rolloutDuration")
	if n.RolloutDuration%time.Second != 0 {
		p.bad("rollout-duration", "%s is not whole seconds", n.RolloutDuration)
	}
	p.boolean("autocreate-cluster-domain-claims", &n.AutocreateClusterDomainClaims, "autocreateClusterDomainClaims")
	p.text("certificate-class", &n.CertificateClass, "certificate.class")
	if v, ok := p.lookup("namespace-wildcard-cert-selector"); ok && v != "" {
		var selector metav1.LabelSelector
		if err := yaml.UnmarshalStrict([]byte(v), &selector); err != nil {
			p.bad("namespace-wildcard-cert-selector", "not a label selector: %v", err)
		} else if n.NamespaceWildcardCertSelector, err = metav1.LabelSelectorAsSelector(&selector); err != nil {
			p.bad("namespace-wildcard-cert-selector", "not a label selector: %v", err)
		}
	}
	n.domain = p.template("domain-template", "{{.Name}}.{{.Namespace}}.{{.Domain}}", "domainTemplate")
	n.tag = p.template("tag-template", "{{.Tag}}-{{.Name}}", "tagTemplate")
	if n.domain != nil && n.tag != nil {
		sample := RouteName{Name: "hello", Namespace: "default"}
		if _, err := n.host(sample, "example.com"); err != nil {
			p.bad("domain-template", "%v", err)
		}
		if _, err := n.tagged("blue", "hello"); err != nil {
			p.bad("tag-template", "%v", err)
		}
	}
	p.accept("ingress-class", "ingress.class", "enable-mesh-pod-addressability", "mesh-compatibility-mode",
		"activator-ca", "activator-san", "activator-cert-secret", "queue-proxy-ca", "queue-proxy-san", "queue-proxy-cert-secret",
		"internal-encryption", "dataplane-trust", "controlplane-trust", "cluster-local-domain-tls", "system-internal-tls",
		"enable-virtual-host-proxying", "istio.sidecar.includeOutboundIPRanges", "domain-claims")
	return n
}

// port checks the text of a port; 0 where there is none.
func (p *parser) port(key, text string) uint16 {
	if text == "" {
		return 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != text {
		p.bad(key, "%q is not a port 1..65535", text)
	}
	return uint16(port)
}

// RouteName is what a Route's host name is made from.
type RouteName struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
}

// domainData and tagData are what domain-template and tag-template may refer to.
type domainData struct {
	Name, Namespace, Domain string
	Labels, Annotations     map[string]string
}

type tagData struct{ Name, Tag string }

func (n *Network) host(r RouteName, domain string) (string, error) {
	return execute(n.domain, domainData{
		Name: r.Name, Namespace: r.Namespace, Domain: domain, Labels: r.Labels, Annotations: r.Annotations,
	})
}

func (n *Network) tagged(tag, name string) (string, error) {
	return execute(n.tag, tagData{Name: name, Tag: tag})
}

// execute runs a template and checks that it gives a host name.
func execute(t *template.Template, data any) (string, error) {
	var b strings.Builder
	if err := t.Execute(&limited{to: &b, left: maxHost}, data); err != nil {
		return "", err
	}
	host := b.String()
	if wrong := validation.IsDNS1123Subdomain(host); len(wrong) > 0 {
		return "", fmt.Errorf("%q is not a host name: %s", host, wrong[0])
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) > validation.DNS1123LabelMaxLength {
			return "", fmt.Errorf("host name %q: %q is longer than %d characters", host, label, validation.DNS1123LabelMaxLength)
		}
	}
	return host, nil
}

// errTooLong stops a template that writes more than a name may have.
var errTooLong = errors.New("the result is longer than a host name may be")

// limited writes at most left bytes.
type limited struct {
	to   io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		return 0, errTooLong
	}
	l.left -= len(b)
	return l.to.Write(b)
}

// Host returns the host name of a Route: from domain-template and the Route's domain,
// or NAME.NAMESPACE.svc.cluster.local where it is cluster-local. It fails where that is
// no host name.
func (s *Settings) Host(r RouteName) (string, error) {
	domain := s.Domain.For(r.Labels)
	if domain == ClusterLocalDomain {
		return r.Name + "." + r.Namespace + "." + ClusterLocalDomain, nil
	}
	host, err := s.Network.host(r, domain)
	if err != nil {
		return "", fmt.Errorf("host of Route %s/%s by %s/domain-template: %w", r.Namespace, r.Name, ConfigNetwork, err)
	}
	return host, nil
}

// TagHost returns the host name of one tag of a Route, made as Host makes it, from the
// name that tag-template gives. It fails where that is no host name.
func (s *Settings) TagHost(tag string, r RouteName) (string, error) {
	name, err := s.Network.tagged(tag, r.Name)
	if err != nil {
		return "", fmt.Errorf("host of tag %q of Route %s/%s by %s/tag-template: %w", tag, r.Namespace, r.Name, ConfigNetwork, err)
	}
	r.Name = name
	return s.Host(r)
}

// IsClusterLocal says whether a Route with these labels is on the in-cluster listener only.
func (s *Settings) IsClusterLocal(routeLabels map[string]string) bool {
	return s.Domain.For(routeLabels) == ClusterLocalDomain
}

// URL returns the URL of a host as clients write it: external hosts with the scheme and
// the port of config-network, in-cluster ones as http without a port.
func (s *Settings) URL(host string) string {
	if host == ClusterLocalDomain || strings.HasSuffix(host, "."+ClusterLocalDomain) {
		return "http://" + host
	}
	if s.Network.ExternalPort != "" {
		host = net.JoinHostPort(host, s.Network.ExternalPort)
	}
	return s.Network.DefaultExternalScheme + "://" + host
}

// SecureURL returns the https URL of an external host, as clients write it.
func (s *Settings) SecureURL(host string) string {
	if port := s.Network.ExternalHTTPSPort; port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return "https://" + host
}

// PlainURL returns the http URL of an external host, as clients write it.
func (s *Settings) PlainURL(host string) string {
	if s.Network.ExternalPort != "" {
		host = net.JoinHostPort(host, s.Network.ExternalPort)
	}
	return "http://" + host
}

// Redirects says whether http requests to a host with a certificate are sent to https,
// by the annotations of the object that the host belongs to, else by config-network.
func (s *Settings) Redirects(annotations map[string]string) bool {
	for _, key := range serving.HTTPProtocolAnnotations() {
		if v, ok := annotations[key]; ok {
			return strings.EqualFold(v, Redirected)
		}
	}
	return s.Network.HTTPProtocol == Redirected
}
