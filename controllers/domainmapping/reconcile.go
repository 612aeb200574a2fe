package domainmapping

import (
	"context"
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
	issuing "ebb.dev/ebb/controllers/certificate"
)

const manager = "ebb-domainmapping"

type reconciler struct {
	client.Client
	live       client.Reader // the API server itself, past the cache
	events     events.EventRecorder
	settings   *settings.Store
	programmed Programmed
	issuer     *issuing.Issuer // nil: none are issued
	now        func() time.Time
}

// Reconcile brings one mapping's claim and status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	m := &v1beta1.DomainMapping{}
	err := r.Get(ctx, req.NamespacedName, m)
	if apierrors.IsNotFound(err) || (err == nil && m.DeletionTimestamp != nil) {
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	next := m.DeepCopy()
	workErr := r.work(ctx, m, next)
	changed, err := apply.Status(ctx, r.Client, manager, next, m)
	if changed {
		r.report(m, next)
	}
	return ctrl.Result{}, errors.Join(workErr, client.IgnoreNotFound(err))
}

// work fills next.Status. The error is one to try again after.
func (r *reconciler) work(ctx context.Context, seen, next *v1beta1.DomainMapping) error {
	s, now := r.settings.Load(), r.now()
	status := &next.Status
	conditions := &status.Conditions
	status.ObservedGeneration = seen.Generation
	defer func() { conditions.Aggregate(v1beta1.Dependents(), now) }()

	claim, errClaim := r.claim(ctx, seen)
	if errClaim != nil {
		claim = condition(v1beta1.DomainClaimed, corev1.ConditionUnknown, v1beta1.ReasonDomainClaimFailed, "%s", errClaim.Error())
	}
	conditions.Set(claim, now)
	at, err := r.find(ctx, seen)
	if err != nil {
		return errors.Join(errClaim, err)
	}
	conditions.Set(resolve(seen, at), now)

	provisioned, https, errIssue := r.certificate(ctx, seen, next, s)
	conditions.Set(provisioned, now)
	status.URL = s.PlainURL(seen.Name)
	if https {
		status.URL = s.SecureURL(seen.Name)
	}
	status.Address = &v1.Addressable{URL: status.URL}
	r.ingress(seen, next, now)
	return errors.Join(errClaim, errIssue)
}

// certificate says what the host's certificate is: the one that the user brings, one that
// cert-manager issues, or none. The error is one to try again after.
func (r *reconciler) certificate(ctx context.Context, m, next *v1beta1.DomainMapping, s *settings.Settings) (v1.Condition, bool, error) {
	condition := condition(v1beta1.CertificateProvisioned, corev1.ConditionTrue, v1.ReasonTLSNotEnabled, "External domain TLS is not enabled.")
	var secrets map[string]string
	var err error
	if r.issuer != nil {
		var byHost map[string]string
		// Nothing is issued for a host that may turn out to be another's.
		if m.Spec.TLS == nil && issuing.Wanted(m.Annotations, s) && next.Status.Conditions.Get(v1beta1.DomainClaimed).IsTrue() {
			byHost = map[string]string{m.Name: "mapping-" + string(m.UID)}
		}
		owner := issuing.Owner{Kind: v1beta1.GroupVersion.WithKind(v1beta1.KindDomainMapping), Object: m}
		var issued v1.Condition
		secrets, issued, err = r.issuer.Provision(ctx, owner, byHost, issuing.Noted(m.Status.Annotations), s)
		if len(byHost) > 0 {
			condition = issued
			condition.Type = v1beta1.CertificateProvisioned
		}
	}
	var errNote error
	next.Status.Annotations, errNote = issuing.Note(next.Status.Annotations, secrets)
	if m.Spec.TLS == nil {
		return condition, len(secrets) > 0, errors.Join(err, errNote)
	}
	p := provided{tls: r.programmed.TLS()}
	p.served, p.known, p.problem = r.programmed.CertificateState(m.Namespace, m.Spec.TLS.SecretName, m.Name)
	brought, https := certificate(m, p)
	return brought, https, errors.Join(err, errNote)
}

// ingress says what the gateways have acknowledged of the mapping as it is stored; so what
// decides what they are told is stored first.
func (r *reconciler) ingress(seen, next *v1beta1.DomainMapping, now time.Time) {
	conditions := &next.Status.Conditions
	for _, kind := range []string{v1beta1.DomainClaimed, v1beta1.ReferenceResolved} {
		if have := conditions.Get(kind); !have.IsTrue() {
			conditions.SetUnknown(v1beta1.IngressReady, v1.ReasonIngressNotConfigured, "Nothing is configured before "+kind+" is True.", now)
			return
		}
	}
	told := seen.Status.Annotations[serving.CertificatesAnnotation] == next.Status.Annotations[serving.CertificatesAnnotation]
	for _, kind := range []string{v1beta1.DomainClaimed, v1beta1.ReferenceResolved} {
		if !seen.Status.Conditions.Get(kind).IsTrue() {
			told = false
		}
	}
	if !told {
		conditions.SetUnknown(v1beta1.IngressReady, v1.ReasonProgramming, "The gateways are being told.", now)
		return
	}
	connected, pending, rejected := r.programmed.MappingState(seen.Namespace, seen.Name)
	switch {
	case len(rejected) > 0:
		conditions.SetFalse(v1beta1.IngressReady, v1.ReasonRejected, strings.Join(rejected, "; "), now)
	case connected == 0:
		conditions.SetUnknown(v1beta1.IngressReady, v1.ReasonNoGateway, "No gateway is connected.", now)
	case pending > 0:
		conditions.SetUnknown(v1beta1.IngressReady, v1.ReasonProgramming, "Not every gateway has acknowledged the configuration yet.", now)
	default:
		conditions.SetTrue(v1beta1.IngressReady, now)
	}
}

func (r *reconciler) report(before, after *v1beta1.DomainMapping) {
	was, is := before.Status.Conditions.Get(v1.ConditionReady), after.Status.Conditions.Get(v1.ConditionReady)
	switch {
	case is.IsTrue() && !was.IsTrue():
		r.events.Eventf(after, nil, corev1.EventTypeNormal, "Ready", "DomainMapping", "It is served at %s", after.Status.URL)
	case is.IsFalse() && (!was.IsFalse() || was.Reason != is.Reason):
		r.events.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "DomainMapping", "%s", is.Message)
	}
}
