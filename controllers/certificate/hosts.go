package certificate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Wanted says whether external hosts of an object with these annotations get certificates.
func Wanted(annotations map[string]string, s *settings.Settings) bool {
	return s.Network.ExternalDomainTLS == settings.Enabled && annotations[serving.DisableExternalDomainTLSAnnotation] != "true"
}

// Provision makes sure of the certificates of an object's hosts, named by host; noted is what it
// returned before. It returns the Secrets of those that are issued, by host: one that was stays, also while it is
// issued anew, or is late, because a host without its certificate is worse. And it returns the condition CertificateProvisioned (without a type). Where http is
// allowed anyway, http goes on while they are not. The error is one to try again after.
func (i *Issuer) Provision(ctx context.Context, owner Owner, byHost, noted map[string]string, s *settings.Settings) (map[string]string, v1.Condition, error) {
	states, err := i.Ensure(ctx, owner, wants(byHost))
	if len(byHost) == 0 {
		return nil, v1.Condition{Status: corev1.ConditionTrue, Reason: v1.ReasonTLSNotEnabled, Message: "No host gets a certificate from cert-manager."}, err
	}
	secrets := map[string]string{}
	for host, name := range byHost {
		if states[name].Ready || noted[host] == name {
			secrets[host] = name
		}
	}
	condition := provisioned(states, err, !s.Redirects(owner.GetAnnotations()))
	if errors.Is(err, ErrNotInstalled) {
		err = nil // it is looked for, and whoever waits is woken
	}
	if err == nil && condition.Reason == reasonNotOwned {
		err = errors.New(condition.Message) // nobody tells when it is gone: tried again, ever more seldom
	}
	return secrets, condition, err
}

// wants groups hosts by the certificate that they share.
func wants(byHost map[string]string) []Want {
	hosts := map[string][]string{}
	for host, name := range byHost {
		if rest, shared := strings.CutPrefix(name, wildcardPrefix); shared {
			host = "*." + rest
		}
		if !slices.Contains(hosts[name], host) {
			hosts[name] = append(hosts[name], host)
		}
	}
	var out []Want
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		out = append(out, Want{Name: name, Hosts: hosts[name]})
	}
	return out
}

// reasonNotOwned is the public API's, for both kinds of owner.
const reasonNotOwned = "CertificateNotOwned"

// wildcardPrefix begins the name of a certificate for all hosts one label below a domain.
const wildcardPrefix = "wildcard."

// Wildcard is the name of the certificate that covers a host and its siblings.
func Wildcard(host string) string {
	_, rest, _ := strings.Cut(host, ".")
	return wildcardPrefix + rest
}

// provisioned sums up the states of several Certificates.
func provisioned(states map[string]State, err error, http bool) v1.Condition {
	var waiting, failed []string
	for _, name := range slices.Sorted(maps.Keys(states)) {
		switch state := states[name]; {
		case state.Ready:
		case state.Foreign:
			return v1.Condition{Status: corev1.ConditionFalse, Reason: reasonNotOwned, Message: state.Message}
		case state.Failed:
			failed = append(failed, fmt.Sprintf("Certificate %s failed: %s", name, state.Message))
		default:
			waiting = append(waiting, fmt.Sprintf("Certificate %s is not ready: %s", name, state.Message))
		}
	}
	if err != nil {
		failed = append(failed, err.Error())
	}
	switch {
	case len(failed)+len(waiting) == 0:
		return v1.Condition{Status: corev1.ConditionTrue}
	case errors.Is(err, ErrNotInstalled) && http:
		return v1.Condition{Status: corev1.ConditionTrue, Reason: v1.ReasonHTTPDowngrade, Message: err.Error() + "; http goes on."}
	case len(failed) > 0:
		return v1.Condition{Status: corev1.ConditionFalse, Reason: v1.ReasonCertificateProvisionFailed, Message: strings.Join(append(failed, waiting...), "; ")}
	case http:
		return v1.Condition{Status: corev1.ConditionTrue, Reason: v1.ReasonHTTPDowngrade, Message: strings.Join(waiting, "; ") + "; http goes on."}
	}
	return v1.Condition{Status: corev1.ConditionUnknown, Reason: v1.ReasonCertificateNotReady, Message: strings.Join(waiting, "; ")}
}

// Noted is what Note wrote.
func Noted(annotations map[string]string) map[string]string {
	var secrets map[string]string
	if json.Unmarshal([]byte(annotations[serving.CertificatesAnnotation]), &secrets) != nil {
		return nil // nothing was noted
	}
	return secrets
}

// Note writes the Secrets of an object's hosts where the data plane reads them: into the
// annotations of its status, which may be nil.
func Note(annotations map[string]string, secrets map[string]string) (map[string]string, error) {
	if len(secrets) == 0 {
		delete(annotations, serving.CertificatesAnnotation)
		return annotations, nil
	}
	text, err := json.Marshal(secrets) // sorted by host
	if err != nil {
		return annotations, fmt.Errorf("encode the Secrets of hosts: %w", err)
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[serving.CertificatesAnnotation] = string(text)
	return annotations, nil
}
