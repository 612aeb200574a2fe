package domainmapping

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/controllers/apply"
)

// claim makes sure of the claim of the mapping's host, or says why the mapping cannot have it.
func (r *reconciler) claim(ctx context.Context, m *v1beta1.DomainMapping) (v1.Condition, error) {
	claim := &v1alpha1.ClusterDomainClaim{}
	place, err := apply.Read(ctx, r, r.live, client.ObjectKey{Name: m.Name}, claim)
	if err != nil {
		return v1.Condition{}, err
	}
	if place != apply.Nowhere {
		return claimed(m, claim), nil
	}
	if !r.settings.Load().Network.AutocreateClusterDomainClaims {
		return claimed(m, nil), nil
	}
	others := &v1beta1.DomainMappingList{}
	if err := r.List(ctx, others, client.MatchingFields{byName: m.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return v1.Condition{}, fmt.Errorf("list domain mappings of host %s: %w", m.Name, err)
	}
	for i := range others.Items {
		if o := &others.Items[i]; older(o, m) {
			return condition(v1beta1.DomainClaimed, corev1.ConditionFalse, v1beta1.ReasonDomainAlreadyClaimed,
				"DomainMapping %s/%s, which is older, has the host %s; choose another name.", o.Namespace, o.Name, m.Name), nil
		}
	}
	claim = &v1alpha1.ClusterDomainClaim{
		ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: map[string]string{serving.AutocreatedLabel: "true"}},
		Spec:       v1alpha1.ClusterDomainClaimSpec{Namespace: m.Namespace},
	}
	switch err := r.Create(ctx, claim); {
	case apierrors.IsAlreadyExists(err):
		if err := r.live.Get(ctx, client.ObjectKey{Name: m.Name}, claim); err != nil {
			return v1.Condition{}, fmt.Errorf("read ClusterDomainClaim %s: %w", m.Name, err)
		}
	case err != nil:
		return v1.Condition{}, fmt.Errorf("create ClusterDomainClaim %s for namespace %s: %w", m.Name, m.Namespace, err)
	}
	return claimed(m, claim), nil
}

func older(a, b *v1beta1.DomainMapping) bool {
	if a.UID == b.UID || a.DeletionTimestamp != nil {
		return false
	}
	if t := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); t != 0 {
		return t < 0
	}
	return a.UID < b.UID
}

// claimed says what a claim, nil when there is none, means for a mapping.
func claimed(m *v1beta1.DomainMapping, claim *v1alpha1.ClusterDomainClaim) v1.Condition {
	switch {
	case claim == nil:
		return condition(v1beta1.DomainClaimed, corev1.ConditionFalse, v1beta1.ReasonDomainClaimFailed,
			"There is no ClusterDomainClaim %s, and config-network/autocreate-cluster-domain-claims is false; a cluster administrator makes one with spec.namespace %s.", m.Name, m.Namespace)
	case claim.DeletionTimestamp != nil:
		return condition(v1beta1.DomainClaimed, corev1.ConditionFalse, v1beta1.ReasonDomainClaimFailed, "ClusterDomainClaim %s is being deleted.", m.Name)
	case claim.Spec.Namespace != m.Namespace:
		return condition(v1beta1.DomainClaimed, corev1.ConditionFalse, v1beta1.ReasonDomainAlreadyClaimed,
			"ClusterDomainClaim %s gives the host to namespace %s; choose another name, or have a cluster administrator change the claim.", m.Name, claim.Spec.Namespace)
	}
	return condition(v1beta1.DomainClaimed, corev1.ConditionTrue, "", "")
}

func condition(kind string, status corev1.ConditionStatus, reason, format string, args ...any) v1.Condition {
	return v1.Condition{Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// collector deletes claims that were made for a mapping when that is gone.
type collector struct{ client.Client }

// Reconcile looks at one claim.
func (c *collector) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	claim := &v1alpha1.ClusterDomainClaim{}
	if err := c.Get(ctx, req.NamespacedName, claim); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if claim.Labels[serving.AutocreatedLabel] != "true" || claim.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	err := c.Get(ctx, client.ObjectKey{Namespace: claim.Spec.Namespace, Name: claim.Name}, &v1beta1.DomainMapping{})
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	err = c.Delete(ctx, claim, client.Preconditions{UID: &claim.UID})
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete ClusterDomainClaim %s, whose DomainMapping %s/%s is gone: %w", claim.Name, claim.Spec.Namespace, claim.Name, err)
	}
	return ctrl.Result{}, nil
}
