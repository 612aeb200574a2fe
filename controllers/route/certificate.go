package route

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/certificate"
)

// certificates makes sure of the certificates of the Route's external hosts, turns the URLs of
// those that have one into https, and sets CertificateProvisioned. The error is one to try again after.
func (r *reconciler) certificates(ctx context.Context, route, next *v1.Route, s *settings.Settings, now time.Time) error {
	status := &next.Status
	condition := v1.Condition{Status: corev1.ConditionTrue, Reason: v1.ReasonTLSNotEnabled, Message: "External domain TLS is not enabled."}
	var secrets map[string]string
	var err error
	if r.issuer != nil {
		var byHost map[string]string
		if certificate.Wanted(route.Annotations, s) {
			if byHost, err = r.certificateNames(ctx, route, next, s); err != nil {
				return err
			}
		}
		owner := certificate.Owner{Kind: v1.GroupVersion.WithKind(v1.KindRoute), Object: route}
		var provisioned v1.Condition
		secrets, provisioned, err = r.issuer.Provision(ctx, owner, byHost, certificate.Noted(status.Annotations), s)
		if len(byHost) > 0 {
			condition = provisioned
		}
	}
	condition.Type = v1.RouteCertificateProvisioned
	status.Conditions.Set(condition, now)
	status.URL = secureURL(status.URL, secrets, s)
	for i := range status.Traffic {
		status.Traffic[i].URL = secureURL(status.Traffic[i].URL, secrets, s)
	}
	var errNote error
	if status.Annotations, errNote = certificate.Note(status.Annotations, secrets); errNote != nil {
		return errNote
	}
	return err
}

// certificateNames says which certificate is for which external host of the Route: one of its
// own, or the one of all such hosts in a namespace that is selected for that.
func (r *reconciler) certificateNames(ctx context.Context, route, next *v1.Route, s *settings.Settings) (map[string]string, error) {
	shared := false
	selector := s.Network.NamespaceWildcardCertSelector
	if _, some := selector.Requirements(); some {
		namespace := &corev1.Namespace{}
		if err := r.Get(ctx, client.ObjectKey{Name: route.Namespace}, namespace); err != nil {
			return nil, fmt.Errorf("route %s/%s: read its namespace: %w", route.Namespace, route.Name, err)
		}
		shared = selector.Matches(labels.Set(namespace.Labels))
	}
	byHost := map[string]string{}
	add := func(address, own string) {
		host := hostOf(address)
		switch {
		case host == "" || strings.HasSuffix(host, "."+settings.ClusterLocalDomain):
		case shared:
			byHost[host] = certificate.Wildcard(host)
		default:
			byHost[host] = own
		}
	}
	own := "route-" + string(route.UID)
	add(next.Status.URL, own)
	for _, t := range next.Status.Traffic {
		add(t.URL, own+"-"+t.Tag)
	}
	return byHost, nil
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func secureURL(address string, secrets map[string]string, s *settings.Settings) string {
	if host := hostOf(address); secrets[host] != "" {
		return s.SecureURL(host)
	}
	return address
}
