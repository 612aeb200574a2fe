package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/cmd/ebb/serve"
	"ebb.dev/ebb/config"
	objects "ebb.dev/ebb/config/install"
)

const (
	systemNamespace = serving.Namespace
	fieldOwner      = client.FieldOwner("ebb-up")
)

// install puts what Ebb needs into the kube-apiserver: its kinds, its namespace, the
// rights of the controller and of the eventing part, its settings and its admission. Whatever is there already is brought up to date.
func (l *layout) install(ctx context.Context, c client.Client) error {
	kinds, err := config.CRDs()
	if err != nil {
		return err
	}
	var errs []error
	for i := range kinds {
		errs = append(errs, apply(ctx, c, kinds[i], apiextensionsv1.SchemeGroupVersion.String(), "CustomResourceDefinition"))
	}
	errs = append(errs, apply(ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}}, "v1", "Namespace"))
	for _, right := range slices.Concat(objects.ControllerRights(), objects.EventingRights()) {
		gvk := right.GetObjectKind().GroupVersionKind()
		errs = append(errs, apply(ctx, c, right, gvk.GroupVersion().String(), gvk.Kind))
	}
	for _, settings := range l.settings() {
		errs = append(errs, apply(ctx, c, settings, "v1", "ConfigMap"))
	}
	errs = append(errs, installStorage(ctx, c))
	// Those of an earlier run have ended: nobody is to wait for them.
	list := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: serve.ActivatorsConfigMap, Namespace: systemNamespace}}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: serve.LeaderLease, Namespace: systemNamespace}}
	errs = append(errs, client.IgnoreNotFound(c.Delete(ctx, list)), client.IgnoreNotFound(c.Delete(ctx, lease)))
	errs = append(errs, installMetrics(ctx, c)...)
	bundle, err := os.ReadFile(l.dir.PKI("mesh-ca.crt"))
	if err != nil {
		return err
	}
	for _, hook := range admissionHooks("https://"+l.at("webhook"), bundle) {
		gvk := hook.GetObjectKind().GroupVersionKind()
		errs = append(errs, apply(ctx, c, hook, gvk.GroupVersion().String(), gvk.Kind))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, kind := range kinds {
		if err := established(ctx, c, kind.Name); err != nil {
			return err
		}
	}
	return allowed(ctx, c)
}

// allowed waits until the kube-apiserver goes by the rights.
func allowed(ctx context.Context, c client.Client) error {
	for _, may := range []struct {
		user  string
		asked authorizationv1.ResourceAttributes
	}{
		{controllerUser, authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods"}},
		{controllerUser, authorizationv1.ResourceAttributes{Verb: "get", Resource: "configmaps", Namespace: systemNamespace}},
		{eventingUser, authorizationv1.ResourceAttributes{Verb: "list", Resource: "namespaces"}},
		{eventingUser, authorizationv1.ResourceAttributes{Verb: "get", Resource: "configmaps", Namespace: systemNamespace}},
	} {
		asked := may.asked
		err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: may.user, ResourceAttributes: &asked}}
			err := c.Create(ctx, review)
			return review.Status.Allowed, err
		})
		if err != nil {
			return fmt.Errorf("%s may not %s %s: %w", may.user, asked.Verb, asked.Resource, err)
		}
	}
	return nil
}

// settings are those that differ from the defaults on one machine.
func (l *layout) settings() []*corev1.ConfigMap {
	named := func(name string, data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: systemNamespace}, Data: data}
	}
	return []*corev1.ConfigMap{
		named("config-domain", map[string]string{"localhost": ""}), // names under localhost are loopback everywhere
		named("config-network", map[string]string{
			"external-port": strconv.Itoa(l.ports["gateway"]), "external-https-port": strconv.Itoa(l.ports["gateway-https"]),
			"autocreate-cluster-domain-claims": "true", // who has a machine to himself claims what he likes
		}),
		named("config-autoscaler", map[string]string{"allow-zero-initial-scale": "true"}),
	}
}

// apply is a server-side apply of a typed object.
func apply(ctx context.Context, c client.Client, object client.Object, apiVersion, kind string) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, object.GetName(), err)
	}
	delete(content, "status")
	u := &unstructured.Unstructured{Object: content}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), fieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("install %s %s: %w", kind, object.GetName(), err)
	}
	return nil
}

func established(ctx context.Context, c client.Client, name string) error {
	var kind apiextensionsv1.CustomResourceDefinition
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &kind); err != nil {
			return false, err
		}
		for _, condition := range kind.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("kind %s is not served: %w", name, err)
	}
	return nil
}
