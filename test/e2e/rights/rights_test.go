package rights

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/networking/v1alpha1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/serving/v1beta1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/config/install"
	"ebb.dev/ebb/test/e2e/platform"
	"ebb.dev/ebb/test/envoytest"
)

// idle are rights without which some cluster, or some moment, would go wrong, and which this run does not need.
func idle() map[right]string {
	all := map[right]string{}
	add := func(why, group string, resources []string, verbs ...string) {
		for _, r := range resources {
			for _, v := range verbs {
				all[right{v, group, r}] = why
			}
		}
	}
	add("asked for where the cluster has OwnerReferencesPermissionEnforcement, instead of a request", serving.GroupName,
		[]string{"services/finalizers", "configurations/finalizers", "routes/finalizers", "revisions/finalizers", "domainmappings/finalizers"}, "update")
	add("only for a Revision that is there and that the cache does not have yet", serving.GroupName, []string{"revisions"}, "get")
	add("only for an Event that is repeated within minutes", "events.k8s.io", []string{"events"}, "patch")
	return all
}

// TestRights: the controller does its work with the roles that are installed on a cluster, was never refused anything, and has no right
// that it does not use.
func TestRights(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a whole platform; left out under -short")
	}
	log := filepath.Join(t.TempDir(), "audit.log")
	p, err := platform.Start(t.Context(), "--audit-log", log)
	if errors.Is(err, platform.ErrNotBuilt) || errors.Is(err, envoytest.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	t.Run("work", func(t *testing.T) { work(t, p) })
	t.Run("lead", func(t *testing.T) { lead(t, p) })
	compare(t, log, install.ControllerUser, install.ControllerRights(), idle())
}

// compare fails for what a user did and was not granted, and for what it was granted and did not do, unless that is excused.
func compare(t *testing.T, log, user string, rights []client.Object, excused map[right]string) {
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	used, forbidden, err := read(file, user)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range forbidden {
		t.Errorf("done and not granted: %s", f)
	}
	var rules []rbacv1.PolicyRule
	for _, o := range rights {
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			rules = append(rules, o.Rules...)
		case *rbacv1.Role:
			rules = append(rules, o.Rules...)
		}
	}
	may := granted(rules)
	for r := range used {
		if !may[r] {
			t.Errorf("done and not granted: %s", r)
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(may), func(a, b right) int { return strings.Compare(a.String(), b.String()) }) {
		switch {
		case used[r] == 0 && excused[r] == "":
			t.Errorf("granted and never done: %s", r)
		case used[r] > 0 && excused[r] != "" && !strings.HasPrefix(excused[r], "only for"):
			t.Errorf("%s is done, so it needs no excuse (%s)", r, excused[r])
		}
	}
	for r := range excused {
		if !may[r] {
			t.Errorf("%s is excused and not granted", r)
		}
	}
	text := report(may, used, excused)
	t.Logf("%d requests; granted and how often done:\n%s", total(used), text)
	if out := os.Getenv("EBB_RIGHTS_REPORT"); out != "" {
		_, part, _ := strings.Cut(user, install.Namespace+":")
		if err := os.WriteFile(out+"."+part, []byte(text+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func total(used map[right]int) (n int) {
	for _, count := range used {
		n += count
	}
	return n
}

// work has the platform do everything that it does with the kube-apiserver.
func work(t *testing.T, p *platform.Platform) {
	n := p.Namespace(t)

	// An image whose tag is resolved with a pull secret of a service account; a dry run before it is stored.
	create(t, n, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte("{\"auths\":{}}")}})
	create(t, n, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "puller"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}})
	image := n.Image(t, platform.App)
	repository, _, _ := strings.Cut(image, "@")
	n.Deploy("web", func(s *v1.Service) {
		s.Spec.Template.Spec.ServiceAccountName = "puller"
		s.Spec.Template.Spec.Containers[0].Image = repository + ":latest"
		s.Annotations = map[string]string{"features.knative.dev/podspec-dryrun": "enabled"}
	})
	fetch(t, n, n.URL("web", "/"))

	// A second Revision, a split with a tag, the tag gone again; a Route and a Configuration of their own.
	n.Change("web", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}} })
	n.AwaitReady("web")
	split := func(tag string) {
		n.Change("web", func(s *v1.Service) {
			s.Spec.Traffic = []v1.TrafficTarget{
				{RevisionName: "web-00001", Percent: new(int64(50)), Tag: tag},
				{RevisionName: "web-00002", Percent: new(int64(50))},
			}
		})
		n.AwaitReady("web")
	}
	split("old")
	fetch(t, n, n.URL("old-web", "/"))
	split("")
	latest := true
	n.Change("web", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: &latest, Percent: new(int64(100))}}
	})
	n.AwaitReady("web")

	// To zero and from it.
	n.AwaitZero("web")
	fetch(t, n, n.URL("web", "/"))

	// Down by one of two: the victim is marked.
	n.Deploy("two", func(s *v1.Service) { s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "2" })
	n.AwaitReadyPods("two", 2)
	n.Change("two", func(s *v1.Service) { s.Annotations = map[string]string{serving.MinScaleAnnotation: "1"} })
	n.AwaitReadyPods("two", 1)

	// Scaled by Kubernetes, and then not.
	n.Deploy("hpa", func(s *v1.Service) {
		s.Spec.Template.Annotations[serving.ClassAnnotation] = serving.ClassHPA
		s.Spec.Template.Annotations[serving.MetricAnnotation] = "cpu"
		s.Spec.Template.Annotations[serving.MinScaleAnnotation] = "1"
	})
	scaled := func() error {
		return n.Get(t.Context(), client.ObjectKey{Namespace: n.In, Name: "hpa-00001"}, &autoscalingv2.HorizontalPodAutoscaler{})
	}
	platform.Until(t, "a HorizontalPodAutoscaler", scaled)
	n.Change("hpa", func(s *v1.Service) {
		s.Annotations = map[string]string{serving.ClassAnnotation: serving.ClassKPA, serving.MetricAnnotation: "concurrency"}
	})
	platform.Until(t, "no HorizontalPodAutoscaler", func() error {
		if err := scaled(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})

	// A host of one's own with a certificate, which the claim goes with.
	create(t, n, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "own"}, Type: corev1.SecretTypeTLS, Data: pair(t, "own.example.com")})
	m := &v1beta1.DomainMapping{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "own.example.com"}}
	m.Spec.Ref = v1beta1.KReference{Kind: "Service", APIVersion: "serving.knative.dev/v1", Name: "web"}
	m.Spec.TLS = &v1beta1.SecretTLS{SecretName: "own"}
	create(t, n, m)
	platform.Until(t, "the DomainMapping is Ready", func() error {
		if err := n.Get(t.Context(), client.ObjectKeyFromObject(m), m); err != nil {
			return err
		}
		return platform.Ready(m.Generation, m.Status.Status)
	})
	if err := n.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	platform.Until(t, "its claim goes", func() error {
		if err := n.Get(t.Context(), client.ObjectKey{Name: m.Name}, &v1alpha1.ClusterDomainClaim{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})

	// Certificates by cert-manager, whose kind is enough for that.
	certificates(t, n)

	// A Deployment in the way of a Revision's.
	create(t, n, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "taken-00001-deployment"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}}},
	}})
	create(t, n, n.Service("taken", nil))
	n.AwaitService("taken", func(s *v1.Service) error {
		if said := platform.Describe(s.Status.Conditions); !strings.Contains(said, "does not belong to this Revision") {
			return errors.New(said)
		}
		return nil
	})

	// A setting that is in the Deployments.
	p.Configure(t, settings.ConfigDeployment, map[string]string{"progress-deadline": "700s"}, func(ctx context.Context, set bool) error {
		var d appsv1.Deployment
		if err := n.Get(ctx, client.ObjectKey{Namespace: n.In, Name: "two-00001-deployment"}, &d); err != nil {
			return err
		}
		if now := *d.Spec.ProgressDeadlineSeconds; (now == 700) != set {
			return fmt.Errorf("the progress deadline is %d s", now)
		}
		return nil
	})()

	// Revisions that nobody needs are collected.
	back := p.Configure(t, settings.ConfigGC, map[string]string{"min-non-active-revisions": "0", "max-non-active-revisions": "0", "retain-since-create-time": "disabled", "retain-since-last-active-time": "disabled"},
		func(ctx context.Context, set bool) error {
			if !set {
				return nil
			}
			if err := n.Get(ctx, client.ObjectKey{Namespace: n.In, Name: "web-00001"}, &v1.Revision{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("web-00001 is there: %w", err)
			}
			return nil
		})
	back()
}

// certificates has a Service with a tag get certificates, and lose that of the tag.
func certificates(t *testing.T, n *platform.Namespace) {
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(n.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	kind := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "certificates.cert-manager.io"}, Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "cert-manager.io", Scope: apiextensionsv1.NamespaceScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "Certificate", ListKind: "CertificateList", Plural: "certificates", Singular: "certificate"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
			Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}},
		}},
	}}
	if err := c.Create(t.Context(), kind); err != nil {
		t.Fatal(err)
	}
	count := func(ctx context.Context) int {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "CertificateList"})
		if c.List(ctx, list, client.InNamespace(n.In)) != nil {
			return -1
		}
		return len(list.Items)
	}
	certified := 0
	back := n.Configure(t, settings.ConfigNetwork, map[string]string{"external-domain-tls": "Enabled", "namespace-wildcard-cert-selector": "matchExpressions: [{key: nobody, operator: Exists}]"}, func(ctx context.Context, set bool) error {
		if set && count(ctx) < 3 { // of the Services that there are
			return fmt.Errorf("there are %d Certificates", count(ctx))
		}
		return nil
	})
	certified = count(t.Context())
	n.Change("web", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{RevisionName: "web-00002", Percent: new(int64(100)), Tag: "more"}}
	})
	platform.Until(t, "a Certificate for the tag", func() error {
		if now := count(t.Context()); now <= certified {
			return fmt.Errorf("there are %d Certificates", now)
		}
		return nil
	})
	n.Change("web", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{RevisionName: "web-00002", Percent: new(int64(100))}}
	})
	platform.Until(t, "no Certificate for the tag", func() error {
		if now := count(t.Context()); now > certified {
			return fmt.Errorf("there are %d Certificates", now)
		}
		return nil
	})
	back()
	n.AwaitReady("web")
}

func create(t *testing.T, n *platform.Namespace, o client.Object) {
	t.Helper()
	if err := n.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

func fetch(t *testing.T, n *platform.Namespace, url string) {
	t.Helper()
	n.AwaitAnswer(t, platform.External, url, func(a platform.Answer) bool { return a.Status == http.StatusOK })
}
