package domainmapping

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
)

// found is what a reference leads to; what does not exist is nil.
type found struct {
	service *v1.Service
	route   *v1.Route
	core    *corev1.Service // of the name, where the reference is to one of these
}

// kinds that a mapping may lead to.
const (
	toNothing = iota
	toService
	toRoute
	toCore
)

func kindOf(ref v1beta1.KReference) int {
	group := ref.Group
	if ref.APIVersion != "" {
		group, _, _ = strings.Cut(ref.APIVersion, "/")
		if !strings.Contains(ref.APIVersion, "/") {
			group = ""
		}
	}
	switch {
	case group == serving.GroupName && ref.Kind == v1.KindService:
		return toService
	case group == serving.GroupName && ref.Kind == v1.KindRoute:
		return toRoute
	case group == "" && ref.Kind == "Service":
		return toCore
	}
	return toNothing
}

// find reads what the reference leads to.
func (r *reconciler) find(ctx context.Context, m *v1beta1.DomainMapping) (found, error) {
	key, at := client.ObjectKey{Namespace: m.Namespace, Name: m.Spec.Ref.Name}, found{}
	get := func(o client.Object) (bool, error) {
		err := r.Get(ctx, key, o)
		if err != nil && !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("DomainMapping %s/%s: read %T %s: %w", m.Namespace, m.Name, o, key, err)
		}
		return err == nil, nil
	}
	kind := kindOf(m.Spec.Ref)
	if kind == toNothing {
		return at, nil
	}
	route := &v1.Route{}
	if ok, err := get(route); err != nil {
		return at, err
	} else if ok {
		at.route = route
	}
	switch kind {
	case toService:
		service := &v1.Service{}
		if ok, err := get(service); err != nil {
			return at, err
		} else if ok {
			at.service = service
		}
	case toCore:
		core := &corev1.Service{}
		if ok, err := get(core); err != nil {
			return at, err
		} else if ok {
			at.core = core
		}
	}
	return at, nil
}

// resolve says whether there is something that the mapping can lead to: a Route with
// traffic, which for a Service is the one that it made.
func resolve(m *v1beta1.DomainMapping, at found) v1.Condition {
	ref := m.Spec.Ref
	failed := func(format string, args ...any) v1.Condition {
		return condition(v1beta1.ReferenceResolved, corev1.ConditionFalse, v1beta1.ReasonResolveFailed, format, args...)
	}
	what := fmt.Sprintf("%s %s/%s", ref.Kind, m.Namespace, ref.Name)
	switch kindOf(ref) {
	case toNothing:
		return failed("spec.ref is a %s of %q: a DomainMapping leads to a Service or a Route of %s.", ref.Kind, ref.APIVersion+ref.Group, v1.GroupVersion)
	case toService:
		if at.service == nil {
			return failed("%s not found.", what)
		}
		if at.route != nil && !metav1.IsControlledBy(at.route, at.service) {
			return failed("Route %s/%s does not belong to %s.", m.Namespace, ref.Name, what)
		}
	case toRoute:
		if at.route == nil {
			return failed("%s not found.", what)
		}
	case toCore:
		if at.core == nil {
			return failed("core %s not found.", what)
		}
		if at.route == nil || !metav1.IsControlledBy(at.core, at.route) {
			return failed("core %s is not the name of a Route: a DomainMapping leads to a Service or a Route of %s.", what, v1.GroupVersion)
		}
	}
	if ns := ref.Namespace; ns != "" && ns != m.Namespace {
		return failed("spec.ref.namespace is %s: it must be the namespace of the DomainMapping, %s.", ns, m.Namespace)
	}
	if at.route == nil || at.route.DeletionTimestamp != nil || len(at.route.Status.Traffic) == 0 {
		return condition(v1beta1.ReferenceResolved, corev1.ConditionUnknown, v1beta1.ReasonResolveFailed, "%s has no traffic yet.", what)
	}
	return condition(v1beta1.ReferenceResolved, corev1.ConditionTrue, "", "")
}
