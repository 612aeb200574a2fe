package up

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The node's metrics.k8s.io, which the kube-apiserver passes requests on to.
const (
	metricsService = "metrics"
	metricsHost    = metricsService + "." + systemNamespace + ".svc"
	frontProxy     = "front-proxy-client"
	metricsAPI     = "v1beta1.metrics.k8s.io"

	unregisterWithin = 2 * time.Second
)

var apiServiceKind = schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}

// registerMetrics tells the kube-apiserver where metrics.k8s.io is, once the node serves it: an
// API that is not served holds up who asks for all of them.
func (l *layout) registerMetrics(ctx context.Context, c client.Client) error {
	bundle, err := os.ReadFile(l.dir.PKI("ca.crt"))
	if err != nil {
		return err
	}
	api := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": metricsAPI},
		"spec": map[string]any{
			"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": int64(100), "versionPriority": int64(100),
			"service":  map[string]any{"namespace": systemNamespace, "name": metricsService, "port": int64(l.ports["node-metrics"])},
			"caBundle": base64.StdEncoding.EncodeToString(bundle),
		},
	}}
	version, kind := apiServiceKind.ToAPIVersionAndKind()
	if err := apply(ctx, c, api, version, kind); err != nil {
		return fmt.Errorf("metrics.k8s.io: %w", err)
	}
	return nil
}

// unregisterMetrics takes that back when the platform ends: a start of the kube-apiserver waits for
// an API that it is told of and that is not there yet. An end does not fail for it.
func unregisterMetrics(c client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), unregisterWithin)
	defer cancel()
	api := &unstructured.Unstructured{}
	api.SetGroupVersionKind(apiServiceKind)
	api.SetName(metricsAPI)
	_ = c.Delete(ctx, api)
}

// installMetrics makes what registerMetrics refers to, and lets those read it who may read pods.
func installMetrics(ctx context.Context, c client.Client) []error {
	return []error{
		apply(ctx, c, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: metricsService, Namespace: systemNamespace},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "127.0.0.1"},
		}, "v1", "Service"),
		apply(ctx, c, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "ebb:metrics-reader", Labels: map[string]string{
				"rbac.authorization.k8s.io/aggregate-to-view": "true", "rbac.authorization.k8s.io/aggregate-to-edit": "true", "rbac.authorization.k8s.io/aggregate-to-admin": "true",
			}},
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"pods", "nodes"}, Verbs: []string{"get", "list"}}},
		}, rbacv1.SchemeGroupVersion.String(), "ClusterRole"),
	}
}
