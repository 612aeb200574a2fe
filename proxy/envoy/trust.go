package envoy

import (
	"errors"

	"path/filepath"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/proxy/ir"
)

// Names of the two secrets that a gateway shows to the other parts of the platform, and knows them by.
// No host is called so.
const (
	IdentitySecret    = "ebb/identity"
	AuthoritiesSecret = "ebb/authorities"
)

// sessionsKept are the sessions that a gateway keeps of each way to an activator, so that most new
// connections of a burst are resumed: one of TLS 1.3 serves once.
const sessionsKept = 256

// TrustSecrets are what the ways to activators refer to: they name files of the gateway, which reads them again
// when something in their folders is replaced, and hold no key.
func TrustSecrets(t ir.Trust) ([]*tlsv3.Secret, error) {
	if t.CertificateFile == "" || t.KeyFile == "" || t.AuthoritiesFile == "" {
		return nil, errors.New("trust: the files of a certificate, its key and the authorities are needed")
	}
	file := func(path string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
	}
	watched := func(file string) *corev3.WatchedDirectory { return &corev3.WatchedDirectory{Path: filepath.Dir(file)} }
	identity, err := check("trust", &tlsv3.Secret{
		Name: IdentitySecret,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: file(t.CertificateFile), PrivateKey: file(t.KeyFile), WatchedDirectory: watched(t.CertificateFile),
		}},
	})
	if err != nil {
		return nil, err
	}
	authorities, err := check("trust", &tlsv3.Secret{
		Name: AuthoritiesSecret,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: file(t.AuthoritiesFile), WatchedDirectory: watched(t.AuthoritiesFile),
		}},
	})
	if err != nil {
		return nil, err
	}
	return []*tlsv3.Secret{identity, authorities}, nil
}

// activatorTLS is the gateway's end of a connection to an activator.
func activatorTLS(identity string) (*corev3.TransportSocket, error) {
	return mutualTLS(identity, nil, fromADS(), fromADS())
}

// mutualTLS shows this gateway's certificate to a peer whose own must have the URI identity. Both secrets are
// found where the sources say.
func mutualTLS(identity string, alpn []string, own, authorities *corev3.ConfigSource) (*corev3.TransportSocket, error) {
	config, err := typed(&tlsv3.UpstreamTlsContext{
		MaxSessionKeys: count(sessionsKept),
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
			AlpnProtocols:                  alpn,
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: IdentitySecret, SdsConfig: own}},
			ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext: &tlsv3.CertificateValidationContext{
						MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
							SanType: tlsv3.SubjectAltNameMatcher_URI,
							Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: identity}},
						}},
					},
					ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: AuthoritiesSecret, SdsConfig: authorities},
				},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}

// Files beside a bootstrap that say where this gateway's own secrets are: an Envoy reads a certificate again
// only when it was told of it by discovery, if only by that of a file.
const (
	identityFile    = "identity.yaml"
	authoritiesFile = "authorities.yaml"
)

func fromFile(folder, name string) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{Path: filepath.Join(folder, name)}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

// BootstrapFiles are what lies in c.TLS.Folder, by name. There are none without TLS.
func BootstrapFiles(c BootstrapConfig) (map[string][]byte, error) {
	if c.TLS == nil {
		return nil, nil
	}
	secrets, err := TrustSecrets(ir.Trust{CertificateFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, AuthoritiesFile: c.TLS.CAFile})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for i, name := range []string{identityFile, authoritiesFile} {
		packed, err := anypb.New(secrets[i])
		if err != nil {
			return nil, err
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&discoveryv3.DiscoveryResponse{
			TypeUrl: packed.GetTypeUrl(), Resources: []*anypb.Any{packed},
		})
		if err != nil {
			return nil, err
		}
		if files[name], err = yaml.JSONToYAML(text); err != nil {
			return nil, err
		}
	}
	return files, nil
}
