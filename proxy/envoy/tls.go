package envoy

import (
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	sniv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	ondemandsecretv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"ebb.dev/ebb/proxy/ir"
)

// handshakeTimeout ends a connection whose handshake does not come to an end, the wait
// for its certificate included.
const handshakeTimeout = 10 * time.Second

// noServerName is asked for by clients that do not say which host they want. No host is
// called so, and they are refused.
const noServerName = "-"

// serverTLS asks for the certificate of a host, by the host's name, when the first client
// wants it: a listener is the same for any number of certificates, and a gateway has only those in use.
func serverTLS() (*corev3.TransportSocket, error) {
	mapper, err := extension("server-name", &sniv3.SNI{DefaultValue: noServerName})
	if err != nil {
		return nil, err
	}
	selector, err := extension("on-demand-secret", &ondemandsecretv3.Config{
		ConfigSource:      fromADS(),
		CertificateMapper: mapper,
	})
	if err != nil {
		return nil, err
	}
	config, err := typed(&tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                    &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
			AlpnProtocols:                []string{"h2", "http/1.1"},
			CustomTlsCertificateSelector: selector,
		},
		// Envoy 1.40 does not take the selector together with either kind of resumption.
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{
			DisableStatelessSessionResumption: true,
		},
		DisableStatefulSessionResumption: true,
	})
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}

// Secret encodes the certificate of one host, under the name by which gateways ask for it.
func Secret(c ir.Certificate) (*tlsv3.Secret, error) {
	fail := func(text string) (*tlsv3.Secret, error) {
		return nil, fmt.Errorf("%s: host %s: %s", who(c.Owner, "certificate"), c.Host, text)
	}
	if c.Host == "" || c.Host == noServerName {
		return fail("a host is needed")
	}
	if len(c.Chain) == 0 || len(c.Key) == 0 {
		return fail("a certificate and its key are needed")
	}
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	secret := &tlsv3.Secret{
		Name: c.Host,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(c.Chain), PrivateKey: inline(c.Key),
		}},
	}
	if secret.ValidateAll() != nil { // its text may hold what is secret
		return fail("the resource made from it is not valid")
	}
	return secret, nil
}
