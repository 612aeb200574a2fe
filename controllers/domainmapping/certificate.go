package domainmapping

import (
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
)

// provided is what the gateways have of a certificate that the user brings.
type provided struct {
	tls           bool // gateways listen with TLS
	served, known bool
	problem       string
}

// certificate says whether the host has the certificate that spec.tls names, and whether it is served by https.
func certificate(m *v1beta1.DomainMapping, p provided) (c v1.Condition, https bool) {
	secret := m.Spec.TLS.SecretName
	switch {
	case !p.tls:
		return condition(v1beta1.CertificateProvisioned, corev1.ConditionTrue, v1.ReasonHTTPDowngrade,
			"No gateway listens with TLS: Secret %s is not used.", secret), false
	case !p.known:
		return condition(v1beta1.CertificateProvisioned, corev1.ConditionUnknown, v1.ReasonCertificateNotReady, "Secret %s is not read yet.", secret), false
	case !p.served && p.problem != "":
		return condition(v1beta1.CertificateProvisioned, corev1.ConditionFalse, v1.ReasonCertificateProvisionFailed, "There is no https: %s.", p.problem), false
	case !p.served:
		return condition(v1beta1.CertificateProvisioned, corev1.ConditionUnknown, v1.ReasonCertificateNotReady, "The certificate in Secret %s is not with the gateways yet.", secret), false
	case p.problem != "":
		// It goes on with the last good one, or with one that clients will refuse.
		return condition(v1beta1.CertificateProvisioned, corev1.ConditionFalse, v1.ReasonCertificateProvisionFailed, "%s.", p.problem), true
	}
	return condition(v1beta1.CertificateProvisioned, corev1.ConditionTrue, v1beta1.ReasonCertificateExternallyProvided,
		"The certificate is the one in Secret %s.", secret), true
}
