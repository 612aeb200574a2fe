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

// TestDefaultsLive: defaults and bounds count for what is written from now on, and what is there already gets none
// of them by a change of its traffic.
func TestDefaultsLive(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	n.DeployAtZero("before", says("one"))
	written := func(ctx context.Context, change func(*v1.Service)) (*v1.RevisionSpec, error) {
		s := n.Service("tried", change)
		s.Spec.Template.Spec.Containers[0].Name = ""
		err := n.Create(ctx, s, client.DryRunAll)
		return &s.Spec.Template.Spec, err
	}
	back := n.Configure(t, settings.ConfigDefaults, map[string]string{
		"revision-timeout-seconds": "77", "revision-response-start-timeout-seconds": "66", "revision-idle-timeout-seconds": "55", "max-revision-timeout-seconds": "88",
		"container-concurrency": "7", "container-concurrency-max-limit": "9", "allow-container-concurrency-zero": "false", "enable-service-links": "true",
		"container-name-template": "app-{{.Name}}", "revision-cpu-request": "10m", "revision-memory-limit": "300Mi",
	}, func(ctx context.Context, set bool) error {
		spec, err := written(ctx, nil)
		if err == nil && (*spec.TimeoutSeconds == 77) != set {
			err = fmt.Errorf("timeoutSeconds is %d", *spec.TimeoutSeconds)
		}
		return err
	})
	spec, err := written(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := spec.Containers[0]
	if *spec.ResponseStartTimeoutSeconds != 66 || *spec.IdleTimeoutSeconds != 55 || *spec.ContainerConcurrency != 7 || !*spec.EnableServiceLinks || c.Name != "app-tried" ||
		c.Resources.Requests.Cpu().String() != "10m" || c.Resources.Limits.Memory().String() != "300Mi" {
		t.Errorf("the spec has %+v", spec)
	}
	for field, change := range map[string]func(*v1.RevisionSpec){
		"timeoutSeconds: Invalid value: 89":       func(s *v1.RevisionSpec) { s.TimeoutSeconds = new(int64(89)) },
		"containerConcurrency: Invalid value: 10": func(s *v1.RevisionSpec) { s.ContainerConcurrency = new(int64(10)) },
		"containerConcurrency: Invalid value: 0":  func(s *v1.RevisionSpec) { s.ContainerConcurrency = new(int64(0)) },
	} {
		if _, err := written(t.Context(), func(s *v1.Service) { change(&s.Spec.Template.Spec) }); err == nil || !strings.Contains(err.Error(), "spec.template.spec."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if s := n.Change("before", route(percent("before-00001", 100, "pinned"))); s.Spec.Template.Spec.Containers[0].Resources.Requests != nil || *s.Spec.Template.Spec.ContainerConcurrency != 0 {
		t.Errorf("a change of traffic made the template %+v", s.Spec.Template.Spec)
	}
	if s := n.AwaitReady("before"); s.Status.LatestCreatedRevisionName != "before-00001" {
		t.Errorf("a change of traffic made %s", s.Status.LatestCreatedRevisionName)
	}
	back()

	secure := n.Configure(t, settings.ConfigFeatures, map[string]string{settings.FeatureSecurePodDefaults: "Enabled"}, func(ctx context.Context, set bool) error {
		spec, err := written(ctx, nil)
		if err == nil && (spec.Containers[0].SecurityContext != nil) != set {
			err = fmt.Errorf("the container has %+v", spec.Containers[0].SecurityContext)
		}
		return err
	})
	if spec, err = written(t.Context(), nil); err != nil || !*spec.Containers[0].SecurityContext.RunAsNonRoot || spec.Containers[0].SecurityContext.Capabilities.Drop[0] != "ALL" {
		t.Errorf("the container has %+v, %v", spec.Containers[0].SecurityContext, err)
	}
	secure()
}

// TestDomainsLive: which domain a Service gets, and the form of its hosts, change for Services that run.
func TestDomainsLive(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	labelled := func(team string) func(*v1.Service) {
		return func(s *v1.Service) { s.Labels = map[string]string{"team": team} }
	}
	n.DeployAtZero("web", labelled("shop"))
	n.DeployAtZero("hidden", labelled("secret"))
	n.DeployAtZero("plain", nil)
	at := func(ctx context.Context, service, host string) error {
		var s v1.Service
		if err := n.WithWatch.Get(ctx, key(n, service), &s); err != nil {
			return err
		}
		if url := s.Status.URL; url != "http://"+host && !strings.HasPrefix(url, "http://"+host+":") {
			return fmt.Errorf("%s is at %s, not at %s", service, url, host)
		}
		return platform.Ready(s.Generation, s.Status.Status)
	}
	usual := func(service string) string { return service + "." + n.In + ".localhost" }
	private := "hidden." + n.In + ".svc.cluster.local"
	answers := func(l platform.Listener, host string, status int) {
		t.Helper()
		if a, err := n.Fetch(t.Context(), l, "http://"+host+"/"); err != nil || a.Status != status {
			t.Errorf("%s at %s answers %s, %v, want %d", host, l, a, err, status)
		}
	}
	domains := n.Configure(t, settings.ConfigDomain, map[string]string{
		"shop.example.org": "selector: {team: shop}", "svc.cluster.local": "selector: {team: secret}",
	}, func(ctx context.Context, set bool) error {
		if !set {
			return errors.Join(at(ctx, "web", usual("web")), at(ctx, "hidden", usual("hidden")), at(ctx, "plain", usual("plain")))
		}
		return errors.Join(at(ctx, "web", "web."+n.In+".shop.example.org"), at(ctx, "hidden", private), at(ctx, "plain", usual("plain")))
	})
	answers(platform.External, "web."+n.In+".shop.example.org", http.StatusOK)
	answers(platform.External, usual("hidden"), http.StatusNotFound)
	answers(platform.Internal, private, http.StatusOK)
	answers(platform.External, usual("plain"), http.StatusOK)
	domains()
	answers(platform.External, usual("hidden"), http.StatusOK)

	n.Change("web", route(percent("web-00001", 100, "next")))
	n.AwaitReady("web")
	forms := n.Configure(t, settings.ConfigNetwork, map[string]string{
		"domain-template": `{{.Name}}-{{index .Labels "team"}}-{{.Namespace}}.{{.Domain}}`, "tag-template": "{{.Name}}--{{.Tag}}",
	}, func(ctx context.Context, set bool) error {
		if !set {
			return at(ctx, "web", usual("web"))
		}
		return at(ctx, "web", "web-shop-"+n.In+".localhost")
	})
	answers(platform.External, "web-shop-"+n.In+".localhost", http.StatusOK)
	answers(platform.External, "web--next-shop-"+n.In+".localhost", http.StatusOK)
	forms()
	answers(platform.External, usual("next-web"), http.StatusOK)
}

// TestDeploymentsLive: config-deployment and the class of config-autoscaler count for Services that come, and a
// rollout-duration for those that are there.
func TestDeploymentsLive(t *testing.T) {
	n := shared.Platform(t).Namespace(t)
	n.Image(t, platform.App)
	r, open := newRegistry(t, n, answers(http.StatusForbidden, "DENIED", "this registry is not to be asked"))
	open()
	tries := 0
	back := n.Configure(t, settings.ConfigDeployment, map[string]string{"registries-skipping-tag-resolving": "kind.local," + r.host, "progress-deadline": "321s"}, func(ctx context.Context, set bool) error {
		// A tag that is not resolved is in the Deployment at once, one that is never.
		tries++
		name := fmt.Sprintf("try%d", tries)
		if err := n.Create(ctx, n.Service(name, from(r.host+"/test-app:latest"))); err != nil {
			return err
		}
		all, err := platform.Await(ctx, n.Platform, &v1.RevisionList{}, func(all []*v1.Revision) error {
			if len(all) == 0 || len(all[0].Status.ContainerStatuses) == 0 && !all[0].Status.Conditions.Get(v1.RevisionContainerHealthy).IsFalse() {
				return errors.New("its image is not looked for")
			}
			return nil
		}, client.InNamespace(n.In), client.MatchingFields{"metadata.name": name + "-00001"})
		if err == nil && (len(all[0].Status.ContainerStatuses) > 0) != set {
			err = fmt.Errorf("conditions: %s", platform.Describe(all[0].Status.Conditions))
		}
		return err
	})
	r.becomes(nil)
	n.Deploy("by-tag", from(r.host+"/test-app:latest"))
	got := command(t, n, "kubectl", "get", "deployment", "by-tag-00001-deployment", "-o", "jsonpath={.spec.template.spec.containers[0].image} {.spec.progressDeadlineSeconds}")
	if got != r.host+"/test-app:latest 321" {
		t.Errorf("the Deployment has %s", got)
	}
	r.becomes(answers(http.StatusForbidden, "DENIED", "this registry is not to be asked"))
	back()

	n.DeployAtZero("web", says("one"))
	slowly := n.Configure(t, settings.ConfigNetwork, map[string]string{"rollout-duration": "600s"}, func(ctx context.Context, set bool) error {
		if !set {
			return nil // it is waited for below
		}
		s := &v1.Service{}
		if err := n.WithWatch.Get(ctx, key(n, "web"), s); err != nil {
			return err
		}
		if shareOf(s, s.Status.LatestCreatedRevisionName) == 1 {
			return nil
		}
		if err := platform.Ready(s.Generation, s.Status.Status); err == nil {
			says(fmt.Sprint("after ", s.Generation))(s)
			if err := n.Update(ctx, s); err != nil {
				return err
			}
		}
		return fmt.Errorf("the newest revision has %d%%", shareOf(s, s.Status.LatestCreatedRevisionName))
	})
	slowly()
	s := n.AwaitReady("web")
	if got := shareOf(s, s.Status.LatestCreatedRevisionName); got != 100 {
		t.Errorf("without a duration the newest revision has %d%%", got)
	}

	n.Configure(t, settings.ConfigAutoscaler, map[string]string{"pod-autoscaler-class": serving.ClassHPA}, func(ctx context.Context, set bool) error {
		out, errOut, err := n.Command(ctx, "", "kubectl", "-n", n.In, "get", "hpa", "-o", "name")
		if err != nil || strings.Contains(out, "/web-00001") != set {
			return fmt.Errorf("the HorizontalPodAutoscalers are %q %s %w", out, errOut, err)
		}
		return nil
	})
}
