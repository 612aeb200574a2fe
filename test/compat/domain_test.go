package compat

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingv1beta1 "knative.dev/serving/pkg/apis/serving/v1beta1"

	"ebb.dev/ebb/apis/networking/v1alpha1"
)

// TestClientDomainMapping: one life of a DomainMapping by the public client.
func TestClientDomainMapping(t *testing.T) {
	u := begin(t)
	s := &servingv1.Service{ObjectMeta: u.named("shop")}
	s.Spec.Template = u.template("mapped")
	must(u.public.Services(u.In).Create(t.Context(), s, metav1.CreateOptions{}))(u)
	host := u.In + ".example.com"
	claim := &v1alpha1.ClusterDomainClaim{ObjectMeta: metav1.ObjectMeta{Name: host}}
	claim.Spec.Namespace = u.In
	if err := u.Create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Delete(context.Background(), claim); err != nil {
			t.Error(err)
		}
	})

	mappings := u.clientset.ServingV1beta1().DomainMappings(u.In)
	m := &servingv1beta1.DomainMapping{ObjectMeta: u.named(host)}
	m.Spec.Ref = duckv1.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "shop"}
	must(mappings.Create(t.Context(), m, metav1.CreateOptions{}))(u)
	m = await(u, mappings.Watch, host, ready[*servingv1beta1.DomainMapping])
	if m.Status.URL == nil || m.Status.Address == nil {
		t.Fatalf("status %+v", m.Status)
	}
	if a := u.MustFetch(t, m.Status.URL.String()); a.Body != "shop-00001 mapped\n" {
		t.Errorf("%s answers %s", m.Status.URL, a)
	}
	raw, err := u.clientset.ServingV1beta1().RESTClient().Get().Namespace(u.In).Resource("domainmappings").Name(host).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameAgain(t, raw, &servingv1beta1.DomainMapping{})

	if err := mappings.Delete(t.Context(), host, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(u, mappings, host)
}
