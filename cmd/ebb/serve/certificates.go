package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/controllers/credentials"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/trust"
)

// certificateOf gives what admission serves with, at each handshake.
type certificateOf func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// webhookFiles reads the files, which may be replaced.
func (o *controllerOptions) webhookFiles(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(o.webhookCert, o.webhookKey)
	return &pair, err
}

func held(s trust.Source) certificateOf {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		m, err := s.Material()
		if err != nil {
			return nil, err
		}
		return &m.Certificate, nil
	}
}

// checkCertificates says which flags do not go together.
func (o *controllerOptions) checkCertificates() error {
	switch files := o.webhookCert != "" || o.webhookKey != ""; {
	case o.issue && (files || !o.tls.empty()):
		return errors.New("--issue-certificates keeps certificates in Secrets: --tls-cert, --tls-key, --tls-ca, --webhook-cert and --webhook-key do not go with it")
	case !o.issue && (o.webhookCert == "" || o.webhookKey == ""):
		return errors.New("--webhook-cert and --webhook-key, or --issue-certificates, are needed: the kube-apiserver calls admission over TLS only")
	}
	return nil
}

// keeper has this replica's certificates in hand, and has made those of all parts if they were missing.
func (o *controllerOptions) keeper(ctx context.Context, config *rest.Config, scheme *runtime.Scheme, log *slog.Logger) (*credentials.Keeper, error) {
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	k := credentials.New(credentials.Options{
		Live: live, Writer: live, Namespace: o.namespace, Service: o.webhookService,
		Mutating: admission.MutatingName, Validating: admission.ValidatingName,
		Logger: log.With("part", "certificates"),
	})
	return k, k.Prepare(ctx)
}

// gatewayTrust is how gateways reach activators; nil is in plain text.
func (o *controllerOptions) gatewayTrust(own trust.Source) *ir.Trust {
	if own == nil {
		return nil
	}
	return &ir.Trust{
		CertificateFile: o.gatewayTLS.cert, KeyFile: o.gatewayTLS.key, AuthoritiesFile: o.gatewayTLS.ca,
		Activators: trust.Activator.URI().String(),
	}
}
