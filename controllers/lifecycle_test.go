package controllers_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

const (
	yes     = corev1.ConditionTrue
	no      = corev1.ConditionFalse
	unknown = corev1.ConditionUnknown
)

// TestControllers runs the controllers together; the sub-tests share one API server and
// have a namespace each.
func TestControllers(t *testing.T) {
	p := start(t)
	alongside := map[string]func(*testing.T, *platform, string){
		"a service becomes ready, gets a second revision and a split": lifecycle,
		"a service and its traffic while nothing changes":             quiet,
		"an image that is not in the registry":                        missingImage,
		"an image that cannot be pulled":                              pullFails,
		"a container that exits":                                      exits,
		"a revision that was ready stays so without pods":             toZero,
		"others' objects are left alone":                              notOwned,
		"a revision name that is taken":                               nameTaken,
		"what gateways say":                                           ingress,
		"tags come and go":                                            tags,
		"a target that is missing keeps the last good traffic":        lastGood,
		"quota":                                            quota,
		"without a service":                                alone,
		"labels and annotations":                           handedOn,
		"a name of 63 characters":                          longName,
		"paused":                                           paused,
		"every field of a pod":                             everything,
		"what the server refuses":                          refused,
		"a registry that is down":                          registryDown,
		"an initial scale of zero":                         initialZero,
		"a rollout, step by step":                          rollout,
		"scaling by the service":                           inherited,
		"a revision that was ready fails later":            failsLater,
		"a class that changes":                             class,
		"what a domain mapping says":                       domainMappings,
		"a private registry":                               privateRegistry,
		"a progress deadline in the middle of a rollout":   deadline,
		"a rollout whose revision fails, then a newer one": rolloutFails,
	}
	t.Run("alongside", func(t *testing.T) {
		for name, test := range alongside {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, p, p.namespace(t))
			})
		}
	})
	// These write to objects of every namespace, so nothing else runs beside them.
	t.Run("claims made for domain mappings", func(t *testing.T) { claimsMade(t, p) })
	t.Run("certificates from cert-manager", func(t *testing.T) { certManager(t, p) })
	t.Run("settings that change, and bad ones", func(t *testing.T) { settingsChange(t, p, p.namespace(t)) })
	t.Run("another domain", func(t *testing.T) { anotherDomain(t, p, p.namespace(t)) })
	t.Run("revisions that nobody needs", func(t *testing.T) { collected(t, p, p.namespace(t)) })
}

func isReady(s *v1.Service) string {
	if s.Status.ObservedGeneration != s.Generation {
		return "the status is of an earlier generation"
	}
	return says(s.Status.Conditions, v1.ConditionReady, yes, "", "")
}

func (p *platform) ready(t *testing.T, ns, name string) *v1.Service {
	t.Helper()
	p.create(t, p.service(ns, name, "app:v1"))
	p.pod(t, ns, name+"-00001", name+"-1", up)
	return eventually(t, p, &v1.Service{}, ns, name, "the service is ready", isReady)
}

func lifecycle(t *testing.T, p *platform, ns string) {
	s := p.ready(t, ns, "hello")
	if s.Status.URL != "http://hello."+ns+".example.com" || s.Status.Address.URL != "http://hello."+ns+".svc.cluster.local" {
		t.Errorf("url %q, address %q", s.Status.URL, s.Status.Address.URL)
	}
	rev := eventually(t, p, &v1.Revision{}, ns, "hello-00001", "the revision is routed", func(r *v1.Revision) string {
		if r.Labels[serving.RoutingStateLabel] != serving.RoutingStateActive || r.Annotations[serving.RoutesAnnotation] != "hello" {
			return "not active"
		}
		return says(r.Status.Conditions, v1.RevisionActive, yes, "", "")
	})
	if d := rev.Status.ContainerStatuses; len(d) != 1 || !strings.HasPrefix(d[0].ImageDigest, p.registry+"/app@sha256:") {
		t.Errorf("digests %+v", d)
	}
	d := &appsv1.Deployment{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "hello-00001-deployment"}, d); err != nil {
		t.Fatal(err)
	}
	if got := d.Spec.Template.Spec.Containers[0].Image; got != rev.Status.ContainerStatuses[0].ImageDigest {
		t.Errorf("the deployment runs %q", got)
	}
	alias := &corev1.Service{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "hello"}, alias); err != nil {
		t.Fatal(err)
	}
	if alias.Spec.ExternalName != "ebb-gateway-internal.ebb-system.svc.cluster.local" {
		t.Errorf("the in-cluster name is an alias of %q", alias.Spec.ExternalName)
	}

	update(t, p, &v1.Service{}, ns, "hello", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2" })
	p.pod(t, ns, "hello-00002", "hello-2", up)
	s = eventually(t, p, &v1.Service{}, ns, "hello", "traffic is at the second revision", func(s *v1.Service) string {
		if s.Status.LatestReadyRevisionName != "hello-00002" || len(s.Status.Traffic) != 1 || s.Status.Traffic[0].RevisionName != "hello-00002" {
			return "not yet"
		}
		return isReady(s)
	})
	if t1 := s.Status.Traffic[0]; *t1.Percent != 100 || !*t1.LatestRevision {
		t.Errorf("traffic %+v", t1)
	}
	eventually(t, p, &v1.Revision{}, ns, "hello-00001", "the first revision is in reserve", func(r *v1.Revision) string {
		if r.Labels[serving.RoutingStateLabel] != serving.RoutingStateReserve || r.Annotations[serving.RoutesAnnotation] != "" {
			return "still routed"
		}
		return ""
	})

	update(t, p, &v1.Service{}, ns, "hello", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{
			{RevisionName: "hello-00001", LatestRevision: new(false), Percent: new(int64(90))},
			{LatestRevision: new(true), Percent: new(int64(10))},
		}
	})
	eventually(t, p, &v1.Service{}, ns, "hello", "the split is served", func(s *v1.Service) string {
		if len(s.Status.Traffic) != 2 || s.Status.Traffic[0].RevisionName != "hello-00001" || *s.Status.Traffic[0].Percent != 90 {
			return "not yet"
		}
		return isReady(s)
	})
	list := &v1.RevisionList{}
	if err := p.List(t.Context(), list, client.InNamespace(ns)); err != nil || len(list.Items) != 2 {
		t.Errorf("%d revisions, want 2 (%v)", len(list.Items), err)
	}
}

// quiet asserts that a settled service is not written to again when its controllers look at it.
func quiet(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "still")
	eventually(t, p, &v1.Revision{}, ns, "still-00001", "routed", func(r *v1.Revision) string {
		if r.Annotations[serving.RoutesAnnotation] == "" {
			return "not yet"
		}
		return ""
	})
	versions := func() string {
		var out []string
		for _, o := range []client.Object{&v1.Service{}, &v1.Configuration{}, &v1.Route{}, &corev1.Service{}} {
			if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "still"}, o); err != nil {
				t.Fatal(err)
			}
			out = append(out, o.GetResourceVersion())
		}
		d := &appsv1.Deployment{}
		if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "still-00001-deployment"}, d); err != nil {
			t.Fatal(err)
		}
		if d.Generation != 1 {
			t.Errorf("the deployment is at generation %d", d.Generation)
		}
		return strings.Join(append(out, d.ResourceVersion), " ")
	}
	before := versions()
	// A pod that changes without a change in readiness makes the chain look again; a
	// second service that becomes ready afterwards shows that it has.
	p.kubelet(t, ns, "still-1", func(s *corev1.PodStatus) { s.Message = "looked at" })
	p.gateways.set(ns, "still", state{connected: 1})
	p.ready(t, ns, "after")
	if after := versions(); after != before {
		t.Errorf("versions were %s and are %s", before, after)
	}
}

func failsWith(t *testing.T, p *platform, ns, name, reason, message string) {
	t.Helper()
	eventually(t, p, &v1.Revision{}, ns, name+"-00001", "the revision says why", func(r *v1.Revision) string {
		return says(r.Status.Conditions, v1.ConditionReady, no, reason, message)
	})
	eventually(t, p, &v1.Configuration{}, ns, name, "the configuration says why", func(c *v1.Configuration) string {
		return says(c.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionFailed, message)
	})
	eventually(t, p, &v1.Service{}, ns, name, "the service says why", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionFailed, message)
	})
}

func missingImage(t *testing.T, p *platform, ns string) {
	p.create(t, p.service(ns, "absent", "nothing:here"))
	failsWith(t, p, ns, "absent", v1.ReasonContainerMissing, "nothing:here")
}

func pullFails(t *testing.T, p *platform, ns string) {
	p.create(t, p.service(ns, "pull", "app:v1"))
	p.pod(t, ns, "pull-00001", "pull-1", waiting("ErrImagePull", "no such layer"))
	failsWith(t, p, ns, "pull", "ErrImagePull", "no such layer")
	p.kubelet(t, ns, "pull-1", up)
	eventually(t, p, &v1.Service{}, ns, "pull", "the service recovers", isReady)
}

func exits(t *testing.T, p *platform, ns string) {
	p.create(t, p.service(ns, "exit", "app:v1"))
	p.pod(t, ns, "exit-00001", "exit-1", exited(3, "cannot open the config"))
	failsWith(t, p, ns, "exit", "ExitCode3", "cannot open the config")
}

func toZero(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "zero")
	// As the autoscaler does.
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "zero-00001-deployment"}}
	if err := p.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`)), client.FieldOwner("ebb-autoscaler")); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "zero-1"}}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, p, &v1.Revision{}, ns, "zero-00001", "inactive and ready", func(r *v1.Revision) string {
		if r.Status.DesiredReplicas == nil || *r.Status.DesiredReplicas != 0 || *r.Status.ActualReplicas != 0 {
			return "replicas"
		}
		return says(r.Status.Conditions, v1.RevisionActive, no, v1.ReasonNoTraffic, "") + says(r.Status.Conditions, v1.ConditionReady, yes, "", "")
	})
	// A change that the revision controller applies leaves the replicas alone.
	update(t, p, &v1.Revision{}, ns, "zero-00001", func(r *v1.Revision) {
		if r.Annotations == nil {
			r.Annotations = map[string]string{}
		}
		r.Annotations[serving.ProgressDeadlineAnnotation] = "77s"
	})
	eventually(t, p, &appsv1.Deployment{}, ns, "zero-00001-deployment", "the deadline is applied", func(d *appsv1.Deployment) string {
		if *d.Spec.ProgressDeadlineSeconds != 77 {
			return "not yet"
		}
		if *d.Spec.Replicas != 0 {
			t.Fatalf("replicas are %d", *d.Spec.Replicas)
		}
		return ""
	})
}

func notOwned(t *testing.T, p *platform, ns string) {
	p.create(t, &v1.Configuration{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "mine"}, Spec: p.service(ns, "x", "app:v1").Spec.ConfigurationSpec})
	p.create(t, p.service(ns, "mine", "app:v2"))
	eventually(t, p, &v1.Service{}, ns, "mine", "it says so", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ServiceConfigurationsReady, no, v1.ReasonNotOwned, "mine")
	})
	p.create(t, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "core"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "elsewhere.example.com"}})
	p.create(t, p.service(ns, "core", "app:v1"))
	eventually(t, p, &v1.Route{}, ns, "core", "it says so", func(r *v1.Route) string {
		return says(r.Status.Conditions, v1.RouteIngressReady, no, v1.ReasonNotOwned, "core")
	})
	foreign := p.service(ns, "x", "app:v1").Spec.Template.Spec.PodSpec
	selector := map[string]string{"foreign": "yes"}
	p.create(t, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "taken-00001-deployment"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: selector},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: selector}, Spec: foreign},
	}})
	p.create(t, p.service(ns, "taken", "app:v1"))
	failsWith(t, p, ns, "taken", v1.ReasonNotOwned, "taken-00001-deployment")
	if err := p.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "core"}}); err != nil {
		t.Fatal(err)
	}
	p.pod(t, ns, "core-00001", "core-1", up)
	eventually(t, p, &v1.Service{}, ns, "core", "ready once the name is free", isReady)
}

func nameTaken(t *testing.T, p *platform, ns string) {
	s := p.service(ns, "named", "app:v1")
	s.Spec.Template.Name = "named-one"
	p.create(t, s)
	p.pod(t, ns, "named-one", "named-1", up)
	eventually(t, p, &v1.Service{}, ns, "named", "ready", isReady)
	update(t, p, &v1.Service{}, ns, "named", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v2" })
	eventually(t, p, &v1.Service{}, ns, "named", "it says so", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionNameTaken, "named-one") +
			says(s.Status.Conditions, v1.ServiceRoutesReady, no, v1.ReasonRevisionNameTaken, "named-one")
	})
	update(t, p, &v1.Service{}, ns, "named", func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = p.registry + "/app:v1" })
	eventually(t, p, &v1.Service{}, ns, "named", "ready with the content that has the name", isReady)

	// The name is of another Configuration's Revision: traffic does not go there.
	p.create(t, p.configuration(ns, "named-two", "app:v1"))
	p.pod(t, ns, "named-two-00001", "named-2", up)
	update(t, p, &v1.Service{}, ns, "named", func(s *v1.Service) {
		s.Spec.Template.Name = "named-two-00001"
		s.Spec.Traffic = []v1.TrafficTarget{{RevisionName: "named-two-00001", Percent: new(int64(100))}}
	})
	eventually(t, p, &v1.Service{}, ns, "named", "it says so", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ServiceRoutesReady, no, v1.ReasonRevisionNameTaken, "named-two-00001")
	})
	r := &v1.Route{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "named"}, r); err != nil || r.Status.Traffic[0].RevisionName != "named-one" || r.Spec.Traffic[0].RevisionName != "" {
		t.Errorf("the route is %+v (%v)", r, err)
	}
	update(t, p, &v1.Service{}, ns, "named", func(s *v1.Service) {
		s.Spec.Template.Name = "named-three"
		s.Spec.Traffic = []v1.TrafficTarget{{RevisionName: "named-three", Percent: new(int64(100))}}
	})
	p.pod(t, ns, "named-three", "named-3", up)
	eventually(t, p, &v1.Service{}, ns, "named", "traffic is at a name given together with it", func(s *v1.Service) string {
		if len(s.Status.Traffic) != 1 || s.Status.Traffic[0].RevisionName != "named-three" {
			return "not yet"
		}
		return isReady(s)
	})
}

func ingress(t *testing.T, p *platform, ns string) {
	p.gateways.set(ns, "in", state{})
	p.create(t, p.service(ns, "in", "app:v1"))
	p.pod(t, ns, "in-00001", "in-1", up)
	check := func(status corev1.ConditionStatus, reason, message string) {
		t.Helper()
		eventually(t, p, &v1.Service{}, ns, "in", reason, func(s *v1.Service) string {
			return says(s.Status.Conditions, v1.ServiceRoutesReady, status, reason, message)
		})
	}
	check(unknown, v1.ReasonNoGateway, "")
	p.gateways.set(ns, "in", state{connected: 2, pending: 1})
	check(unknown, v1.ReasonProgramming, "")
	p.gateways.set(ns, "in", state{connected: 2, rejected: []string{"gateway-1: bad regex"}})
	check(no, v1.ReasonRejected, "bad regex")
	p.gateways.set(ns, "in", state{connected: 2})
	check(yes, "", "")
}

func tags(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "tagged")
	update(t, p, &v1.Service{}, ns, "tagged", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100))}, {RevisionName: "tagged-00001", Tag: "blue"}}
	})
	eventually(t, p, &v1.Service{}, ns, "tagged", "the tag has a URL", func(s *v1.Service) string {
		if len(s.Status.Traffic) != 2 || s.Status.Traffic[1].URL != "http://blue-tagged."+ns+".example.com" {
			return "not yet"
		}
		return isReady(s)
	})
	eventually(t, p, &corev1.Service{}, ns, "blue-tagged", "the tag has an in-cluster name", func(*corev1.Service) string { return "" })
	update(t, p, &v1.Service{}, ns, "tagged", func(s *v1.Service) { s.Spec.Traffic = s.Spec.Traffic[:1] })
	until(t, "the in-cluster name goes", func() error {
		err := p.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "blue-tagged"}, &corev1.Service{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return apierrors.NewConflict(v1.GroupVersion.WithResource("services").GroupResource(), "blue-tagged", err)
	})
}

func lastGood(t *testing.T, p *platform, ns string) {
	p.ready(t, ns, "good")
	update(t, p, &v1.Service{}, ns, "good", func(s *v1.Service) {
		s.Spec.Traffic = []v1.TrafficTarget{{RevisionName: "good-77777", Percent: new(int64(100))}}
	})
	r := eventually(t, p, &v1.Route{}, ns, "good", "it says what is missing", func(r *v1.Route) string {
		return says(r.Status.Conditions, v1.RouteAllTrafficAssigned, no, v1.ReasonRevisionMissing, "good-77777")
	})
	if len(r.Status.Traffic) != 1 || r.Status.Traffic[0].RevisionName != "good-00001" {
		t.Errorf("traffic is %+v", r.Status.Traffic)
	}
	eventually(t, p, &v1.Service{}, ns, "good", "the service says so too", func(s *v1.Service) string {
		return says(s.Status.Conditions, v1.ConditionReady, no, v1.ReasonRevisionMissing, "good-77777")
	})
}

func quota(t *testing.T, p *platform, ns string) {
	p.create(t, p.service(ns, "quota", "app:v1"))
	d := eventually(t, p, &appsv1.Deployment{}, ns, "quota-00001-deployment", "the deployment is there", func(*appsv1.Deployment) string { return "" })
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: yes, Reason: "FailedCreate", Message: `pods "quota-1" is forbidden: exceeded quota: pods`}}
	if err := p.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	failsWith(t, p, ns, "quota", "FailedCreate", "exceeded quota: pods")
}
