package serve

import (
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/test/kubetest"
)

// TestHookService: the address is that which the API server gave the Service, and a headless one is refused.
func TestHookService(t *testing.T) {
	c, err := client.New(kubetest.Start(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	make := func(name, ip string) *corev1.Service {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 8013}}},
		}
		if err := c.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	hooks := func(name string) *hookService {
		return &hookService{namespace: "default", name: name, port: "8013", log: slog.New(slog.DiscardHandler)}
	}
	s := make("activator", "")
	if got, err := hooks("activator").find(t.Context(), c); err != nil || got != s.Spec.ClusterIP+":8013" {
		t.Errorf("%q, %v; want %s:8013", got, err, s.Spec.ClusterIP)
	}
	make("headless", "None")
	if _, err := hooks("headless").find(t.Context(), c); err == nil || !strings.Contains(err.Error(), "must not be headless") {
		t.Errorf("headless: %v", err)
	}
}
