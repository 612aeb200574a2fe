package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/test/e2e/platform"
)

// The tests here change settings of the whole platform: none runs beside another test.

// TestTagByHeader: the header picks a tag at the Service's own host while the feature is on, outside and inside.
func TestTagByHeader(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	deployTwo(n, "web")
	n.Change("web", route(percent("web-00001", 0, "old"), percent("web-00002", 100, "")))
	n.AwaitReady("web")

	url := n.URL("web", "/headers")
	// ask says who answers a request with a tag ("" for none), and what the pod is told.
	ask := func(ctx context.Context, l platform.Listener, url, tag string) (string, error) {
		var header []string
		if tag != "" {
			header = []string{serving.TagHeader, tag}
		}
		a, err := n.Fetch(ctx, l, url, header...)
		if err != nil || a.Status != http.StatusOK {
			return "", fmt.Errorf("%s, %w", a, err)
		}
		said := a.Revision()
		for line := range strings.Lines(a.Body) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if name == http.CanonicalHeaderKey(serving.DefaultRouteHeader) {
				said += " default:" + value
			}
		}
		return said, nil
	}
	expect := func(l platform.Listener, url, tag, want string) {
		t.Helper()
		if got, err := ask(t.Context(), l, url, tag); err != nil || got != want {
			t.Errorf("%s with tag %q at %s: %q, %v, want %q", url, tag, l, got, err, want)
		}
	}
	expect(platform.External, url, "old", "web-00002")
	expect(platform.External, url, "", "web-00002")

	back := n.Configure(t, settings.ConfigFeatures, map[string]string{settings.FeatureTagHeaderRouting: "Enabled"}, func(ctx context.Context, on bool) error {
		want := map[bool]string{true: "web-00001", false: "web-00002"}[on]
		if got, err := ask(ctx, platform.External, url, "old"); err != nil || got != want {
			return fmt.Errorf("tag old answers %q, %w, not %s", got, err, want)
		}
		return nil
	})
	for l, at := range map[platform.Listener]func(string, string) string{platform.External: n.URL, platform.Internal: n.InternalURL} {
		expect(l, at("web", "/headers"), "old", "web-00001")
		expect(l, at("web", "/headers"), "", "web-00002 default:true")
		expect(l, at("web", "/headers"), "nobody", "web-00002 default:true")
		expect(l, at("web", "/headers"), "OLD", "web-00002 default:true") // tags are names: their case counts
		expect(l, at("old-web", "/headers"), "", "web-00001")
	}
	// A tag that comes while the feature is on is picked as soon as it is Ready.
	n.Change("web", route(percent("web-00001", 0, "before"), percent("web-00002", 100, "")))
	n.AwaitReady("web")
	expect(platform.External, url, "before", "web-00001")
	expect(platform.External, url, "old", "web-00002 default:true")
	n.Change("web", route(percent("web-00001", 0, "old"), percent("web-00002", 100, "")))
	n.AwaitReady("web")
	back()
	expect(platform.External, url, "old", "web-00002")
	expect(platform.External, url, "", "web-00002")
	expect(platform.External, n.URL("old-web", "/headers"), "", "web-00001")
}

// TestFeaturesDisabled: what an operator disables is refused where it is written, by field and key; what was there
// before goes on serving, and can still be changed elsewhere.
func TestFeaturesDisabled(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	fields := map[string]struct {
		set  func(*v1.RevisionSpec)
		path string
	}{
		"kubernetes.podspec-hostaliases": {func(s *v1.RevisionSpec) {
			s.HostAliases = []corev1.HostAlias{{IP: "127.0.0.1", Hostnames: []string{"database"}}}
		}, "hostAliases"},
		"kubernetes.podspec-tolerations": {func(s *v1.RevisionSpec) {
			s.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
		}, "tolerations"},
		"kubernetes.podspec-dnspolicy":       {func(s *v1.RevisionSpec) { s.DNSPolicy = corev1.DNSDefault }, "dnsPolicy"},
		"kubernetes.podspec-securitycontext": {func(s *v1.RevisionSpec) { s.SecurityContext = &corev1.PodSecurityContext{} }, "securityContext"},
		"kubernetes.podspec-fieldref": {func(s *v1.RevisionSpec) {
			s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}})
		}, "containers[0].env"},
		"kubernetes.podspec-volumes-emptydir": {func(s *v1.RevisionSpec) {
			s.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}, "volumes[0].emptyDir"},
	}
	n.DeployAtZero("kept", func(s *v1.Service) {
		says("one")(s)
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			if key != "kubernetes.podspec-volumes-emptydir" { // it would be mounted nowhere, and a plain process can mount nothing
				fields[key].set(&s.Spec.Template.Spec)
			}
		}
	})
	// try asks admission for a Service that uses a key's field; nothing is stored.
	try := func(ctx context.Context, key string) error {
		s := n.Service("tried", func(s *v1.Service) { fields[key].set(&s.Spec.Template.Spec) })
		return n.Create(ctx, s, client.DryRunAll)
	}
	for key := range fields {
		if err := try(t.Context(), key); err != nil {
			t.Errorf("by default %s: %v", key, err)
		}
	}
	disabled := map[string]string{}
	for key := range fields {
		disabled[key] = "Disabled"
	}
	back := n.Configure(t, settings.ConfigFeatures, disabled, func(ctx context.Context, set bool) error {
		if err := try(ctx, "kubernetes.podspec-hostaliases"); (err != nil) != set {
			return fmt.Errorf("hostAliases are answered %w", err)
		}
		return nil
	})
	for key, f := range fields {
		err := try(t.Context(), key)
		if err == nil || !strings.Contains(err.Error(), "spec.template.spec."+f.path+": Forbidden: is disabled by config-features/"+key) || strings.Count(err.Error(), "is disabled by") != 1 {
			t.Errorf("%s is answered %v", key, err)
		}
	}
	if err := n.Create(t.Context(), n.Service("plain", nil), client.DryRunAll); err != nil {
		t.Errorf("a Service without any: %v", err)
	}
	// What was there before: from zero, with its label and its traffic changed.
	if a := n.MustFetch(t, n.URL("kept", "/")); a.Body != "kept-00001 one\n" {
		t.Errorf("the Service from before answers %s", a)
	}
	n.Change("kept", func(s *v1.Service) { s.Labels = map[string]string{"team": "blue"} })
	n.Change("kept", route(percent("kept-00001", 100, "pinned")))
	n.AwaitReady("kept")
	if a := n.MustFetch(t, n.URL("pinned-kept", "/")); a.Revision() != "kept-00001" {
		t.Errorf("its new tag answers %s", a)
	}
	// But not with another template.
	var s v1.Service
	if err := n.WithWatch.Get(t.Context(), key(n, "kept"), &s); err != nil {
		t.Fatal(err)
	}
	says("two")(&s)
	if err := n.Update(t.Context(), &s); err == nil || !strings.Contains(err.Error(), "spec.template.spec.tolerations: Forbidden: is disabled by config-features/kubernetes.podspec-tolerations") {
		t.Errorf("another template that uses them is answered %v", err)
	}
	back()
	for key := range fields {
		if err := try(t.Context(), key); err != nil {
			t.Errorf("enabled again, %s: %v", key, err)
		}
	}
	n.Change("kept", func(s *v1.Service) { says("two")(s); s.Spec.Traffic = nil })
	n.AwaitReady("kept")
	if a := n.MustFetch(t, n.URL("kept", "/")); a.Body != "kept-00002 two\n" {
		t.Errorf("with its second template it answers %s", a)
	}
}

// TestClaimsByHand: without autocreate-cluster-domain-claims an administrator says whose a host is.
func TestClaimsByHand(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	n.Deploy("web", says("one"))
	host := func(name string) string { return name + "." + n.In + ".example.org" }
	tries := 0
	n.Configure(t, settings.ConfigNetwork, map[string]string{"autocreate-cluster-domain-claims": "false"}, func(ctx context.Context, set bool) error {
		// A mapping of a new host has a claim at once, or says that there is none.
		tries++
		m := mapping(n, host(fmt.Sprintf("try%d", tries)), "web")
		if err := n.Create(ctx, m); err != nil {
			return err
		}
		all, err := platform.Await(ctx, n.Platform, &v1beta1.DomainMappingList{}, func(all []*v1beta1.DomainMapping) error {
			if len(all) == 0 || all[0].Status.Conditions.Get(v1beta1.DomainClaimed) == nil || all[0].Status.Conditions.Get(v1beta1.DomainClaimed).IsUnknown() {
				return errors.New("its claim is not looked for")
			}
			return nil
		}, client.InNamespace(n.In), client.MatchingFields{"metadata.name": m.Name})
		if err != nil {
			return err
		}
		if c := all[0].Status.Conditions.Get(v1beta1.DomainClaimed); c.IsTrue() == set {
			return fmt.Errorf("conditions: %s", platform.Describe(all[0].Status.Conditions))
		}
		return n.Delete(ctx, m)
	})
	create(n, mapping(n, host("www"), "web"))
	awaitMapping(n, host("www"), func(m *v1beta1.DomainMapping) error {
		c := m.Status.Conditions.Get(v1beta1.DomainClaimed)
		if !c.IsFalse() || c.Reason != v1beta1.ReasonDomainClaimFailed || !strings.Contains(c.Message, "spec.namespace "+n.In) {
			return fmt.Errorf("conditions: %s", platform.Describe(m.Status.Conditions))
		}
		return nil
	})
	if a, err := n.Fetch(t.Context(), platform.External, "http://"+host("www")+"/"); err != nil || a.Status != http.StatusNotFound {
		t.Errorf("a host without a claim answers %s, %v", a, err)
	}
	claim := &v1alpha1.ClusterDomainClaim{ObjectMeta: metav1.ObjectMeta{Name: host("www")}, Spec: v1alpha1.ClusterDomainClaimSpec{Namespace: n.In}}
	create(n, claim)
	t.Cleanup(func() {
		if err := n.Delete(context.Background(), claim); err != nil {
			t.Error(err)
		}
	})
	m := awaitMapping(n, host("www"), mappingReady)
	if a := n.MustFetch(t, "http://"+host("www")+"/"); a.Body != "web-00001 one\n" {
		t.Errorf("the claimed host answers %s", a)
	}
	// The administrator's claim outlives the mapping.
	if err := n.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	n.AwaitAnswer(t, platform.External, "http://"+host("www")+"/", func(a platform.Answer) bool { return a.Status == http.StatusNotFound })
	if err := n.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
		t.Errorf("the claim: %v", err)
	}
}
