package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/client/informers/externalversions"

	"ebb.dev/ebb/test/e2e/platform"
)

func latest(percent int64) servingv1.TrafficTarget {
	return servingv1.TrafficTarget{LatestRevision: new(true), Percent: &percent}
}

func share(revision string, percent int64, tag string) servingv1.TrafficTarget {
	return servingv1.TrafficTarget{RevisionName: revision, Percent: &percent, Tag: tag}
}

// TestClientService: one life of a Service by the public client: create, wait, call,
// update, split, read everything it made, delete.
func TestClientService(t *testing.T) {
	u := begin(t)
	services, revisions := u.public.Services(u.In), u.public.Revisions(u.In)
	s := &servingv1.Service{ObjectMeta: u.named("shop")}
	s.Spec.Template = u.template("one")
	created := must(services.Create(t.Context(), s, metav1.CreateOptions{}))(u)
	if c := created.Spec.Template.Spec.Containers[0]; c.ReadinessProbe == nil || *created.Spec.Template.Spec.TimeoutSeconds != 300 || len(created.Spec.Traffic) != 1 {
		t.Errorf("the defaults that came back: %+v", created.Spec)
	}
	s = await(u, services.Watch, "shop", ready[*servingv1.Service])
	if s.Status.URL == nil || s.Status.URL.Scheme != "http" || s.Status.Address == nil || s.Status.Address.URL.Host != "shop."+u.In+".svc.cluster.local" {
		t.Errorf("url %v, address %+v", s.Status.URL, s.Status.Address)
	}
	if a := u.MustFetch(t, s.Status.URL.String()); a.Body != "shop-00001 one\n" {
		t.Errorf("%s answers %s", s.Status.URL, a)
	}

	change(u, services, "shop", func(s *servingv1.Service) { s.Spec.Template = u.template("two") })
	s = await(u, services.Watch, "shop", func(s *servingv1.Service) error {
		if s.Status.LatestReadyRevisionName != "shop-00002" {
			return fmt.Errorf("the latest ready revision is %q", s.Status.LatestReadyRevisionName)
		}
		return ready(s)
	})
	if got := s.Status.Traffic; len(got) != 1 || got[0].RevisionName != "shop-00002" || *got[0].Percent != 100 || !*got[0].LatestRevision {
		t.Errorf("traffic %+v", got)
	}

	change(u, services, "shop", func(s *servingv1.Service) {
		s.Spec.Traffic = []servingv1.TrafficTarget{latest(40), share("shop-00001", 60, "old")}
	})
	s = await(u, services.Watch, "shop", ready[*servingv1.Service])
	i := slices.IndexFunc(s.Status.Traffic, func(t servingv1.TrafficTarget) bool { return t.Tag == "old" })
	if i < 0 || *s.Status.Traffic[i].Percent != 60 || s.Status.Traffic[i].URL == nil {
		t.Fatalf("traffic %+v", s.Status.Traffic)
	}
	if a := u.MustFetch(t, s.Status.Traffic[i].URL.String()); a.Body != "shop-00001 one\n" {
		t.Errorf("the tag's URL %s answers %s", s.Status.Traffic[i].URL, a)
	}

	patch := []byte(`[{"op":"replace","path":"/spec/traffic","value":[{"latestRevision":true,"percent":100}]}]`)
	must(services.Patch(t.Context(), "shop", types.JSONPatchType, patch, metav1.PatchOptions{}))(u)
	await(u, services.Watch, "shop", ready[*servingv1.Service])

	lossless(u, "services", "shop", &servingv1.Service{})
	lossless(u, "configurations", "shop", &servingv1.Configuration{})
	lossless(u, "routes", "shop", &servingv1.Route{})
	mine := must(revisions.List(t.Context(), metav1.ListOptions{LabelSelector: "serving.knative.dev/service=shop"}))(u)
	if len(mine.Items) != 2 {
		t.Fatalf("%d revisions", len(mine.Items))
	}
	for i := range mine.Items {
		r := &mine.Items[i]
		lossless(u, "revisions", r.Name, &servingv1.Revision{})
		if r.Labels["serving.knative.dev/configurationGeneration"] != fmt.Sprint(i+1) || r.Status.ContainerStatuses[0].ImageDigest == "" {
			t.Errorf("revision %s has labels %v and containers %+v", r.Name, r.Labels, r.Status.ContainerStatuses)
		}
	}

	// The old one has no traffic: it may go. The one that serves comes back.
	if err := revisions.Delete(t.Context(), "shop-00001", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(u, services.Watch, "shop", ready[*servingv1.Service])

	foreground := metav1.DeletePropagationForeground
	if err := services.Delete(t.Context(), "shop", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	awaitGone(u, services, "shop")
	if _, err := revisions.Get(t.Context(), "shop-00002", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the revision of a Service deleted in the foreground: %v", err)
	}
}

// TestClientConfigurationAndRoute: the two without a Service.
func TestClientConfigurationAndRoute(t *testing.T) {
	u := begin(t)
	configurations, routes := u.public.Configurations(u.In), u.public.Routes(u.In)
	c := &servingv1.Configuration{ObjectMeta: u.named("engine")}
	c.Spec.Template = u.template("one")
	must(configurations.Create(t.Context(), c, metav1.CreateOptions{}))(u)
	c = await(u, configurations.Watch, "engine", ready[*servingv1.Configuration])
	if c.Status.LatestReadyRevisionName != "engine-00001" || c.Status.LatestCreatedRevisionName != "engine-00001" {
		t.Errorf("status %+v", c.Status)
	}

	r := &servingv1.Route{ObjectMeta: u.named("door")}
	r.Spec.Traffic = []servingv1.TrafficTarget{{ConfigurationName: "engine", Percent: new(int64(100))}, {RevisionName: "engine-00001", Tag: "first"}}
	must(routes.Create(t.Context(), r, metav1.CreateOptions{}))(u)
	r = await(u, routes.Watch, "door", ready[*servingv1.Route])
	if a := u.MustFetch(t, r.Status.URL.String()); a.Body != "engine-00001 one\n" {
		t.Errorf("%s answers %s", r.Status.URL, a)
	}

	change(u, configurations, "engine", func(c *servingv1.Configuration) { c.Spec.Template = u.template("two") })
	r = await(u, routes.Watch, "door", func(r *servingv1.Route) error {
		if len(r.Status.Traffic) == 0 || r.Status.Traffic[0].RevisionName != "engine-00002" {
			return fmt.Errorf("the traffic goes to %+v", r.Status.Traffic)
		}
		return ready(r)
	})
	if a := u.MustFetch(t, r.Status.URL.String()); a.Body != "engine-00002 two\n" {
		t.Errorf("%s answers %s", r.Status.URL, a)
	}
	lossless(u, "configurations", "engine", &servingv1.Configuration{})
	lossless(u, "routes", "door", &servingv1.Route{})

	change(u, routes, "door", func(r *servingv1.Route) {
		r.Spec.Traffic = []servingv1.TrafficTarget{share("engine-00001", 100, "")}
	})
	r = await(u, routes.Watch, "door", ready[*servingv1.Route])
	if a := u.MustFetch(t, r.Status.URL.String()); a.Body != "engine-00001 one\n" {
		t.Errorf("back to the first: %s answers %s", r.Status.URL, a)
	}

	if err := routes.Delete(t.Context(), "door", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(u, routes, "door")
	if err := configurations.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(u, configurations, "engine")
}

// TestClientSeesFailures: what is wrong arrives in the public types' conditions, and
// refusals as the API machinery's errors.
func TestClientSeesFailures(t *testing.T) {
	u := begin(t)
	services := u.public.Services(u.In)
	s := &servingv1.Service{ObjectMeta: u.named("broken")}
	s.Spec.Template = u.template("never")
	s.Spec.Template.Spec.Containers[0].Env = append(s.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "FAIL_AT_START", Value: "no such database"})
	must(services.Create(t.Context(), s, metav1.CreateOptions{}))(u)
	s = await(u, services.Watch, "broken", func(s *servingv1.Service) error {
		if !s.IsFailed() {
			return errors.New("it has not failed")
		}
		return nil
	})
	condition := s.Status.GetCondition(servingv1.ServiceConditionReady)
	if condition.Reason != "RevisionFailed" || !strings.Contains(condition.Message, "no such database") {
		t.Errorf("condition %+v", condition)
	}
	r := must(u.public.Revisions(u.In).Get(t.Context(), "broken-00001", metav1.GetOptions{}))(u)
	if healthy := r.Status.GetCondition(servingv1.RevisionConditionContainerHealthy); !healthy.IsFalse() || !strings.HasPrefix(healthy.Reason, "ExitCode") {
		t.Errorf("revision's condition %+v", healthy)
	}
	lossless(u, "services", "broken", &servingv1.Service{})
	lossless(u, "revisions", "broken-00001", &servingv1.Revision{})

	s = &servingv1.Service{ObjectMeta: u.named("refused")}
	s.Spec.Template = u.template("never")
	s.Spec.Traffic = []servingv1.TrafficTarget{latest(60)}
	if _, err := services.Create(t.Context(), s, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.traffic") {
		t.Errorf("a bad split: %v", err)
	}
	again := &servingv1.Service{ObjectMeta: u.named("broken")}
	again.Spec.Template = u.template("again")
	if _, err := services.Create(t.Context(), again, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("one that is there: %v", err)
	}
	stale := again.DeepCopy()
	stale.ResourceVersion = "1"
	if _, err := services.Update(t.Context(), stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a stale update: %v", err)
	}
}

// TestClientGeneratesNamesAndInforms: generateName, and the shared informers of the
// public client with their listers.
func TestClientGeneratesNamesAndInforms(t *testing.T) {
	u := begin(t)
	factory := externalversions.NewSharedInformerFactoryWithOptions(u.clientset, 0, externalversions.WithNamespace(u.In))
	informers := factory.Serving().V1()
	type event struct{ what, name string }
	events := make(chan event, 1000)
	tell := func(what string) func(any) {
		return func(o any) { events <- event{what, o.(metav1.Object).GetName()} }
	}
	for kind, i := range map[string]cache.SharedIndexInformer{
		"service": informers.Services().Informer(), "configuration": informers.Configurations().Informer(),
		"route": informers.Routes().Informer(), "revision": informers.Revisions().Informer(),
	} {
		update := tell("update " + kind)
		if _, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: tell("add " + kind), UpdateFunc: func(_, o any) { update(o) }, DeleteFunc: tell("delete " + kind),
		}); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	defer func() { close(stop); factory.Shutdown() }()
	factory.Start(stop)
	for kind, synced := range factory.WaitForCacheSync(stop) {
		if !synced {
			t.Fatalf("%v is not synced", kind)
		}
	}

	s := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: u.In, GenerateName: "job-"}}
	s.Spec.Template = u.template("generated")
	s.Spec.Template.Annotations["autoscaling.knative.dev/initial-scale"] = "0"
	s = must(u.public.Services(u.In).Create(t.Context(), s, metav1.CreateOptions{}))(u)
	if !strings.HasPrefix(s.Name, "job-") || len(s.Name) <= len("job-") {
		t.Fatalf("the generated name is %q", s.Name)
	}
	s = await(u, u.public.Services(u.In).Watch, s.Name, ready[*servingv1.Service])
	if a := u.MustFetch(t, s.Status.URL.String()); a.Body != s.Name+"-00001 generated\n" {
		t.Errorf("it answers %s", a)
	}
	if err := u.public.Services(u.In).Delete(t.Context(), s.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(u, u.public.Services(u.In), s.Name)
	want := map[event]bool{}
	for _, kind := range []string{"service", "configuration", "route", "revision"} {
		for _, what := range []string{"add ", "update ", "delete "} {
			name := s.Name
			if kind == "revision" {
				name += "-00001"
			}
			want[event{what + kind, name}] = true
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), platform.Deadline)
	defer cancel()
	for len(want) > 0 {
		select {
		case e := <-events:
			delete(want, e)
		case <-ctx.Done():
			t.Fatalf("the informers have not told of %v", want)
		}
	}
	if _, err := informers.Services().Lister().Services(u.In).Get(s.Name); !apierrors.IsNotFound(err) {
		t.Errorf("the lister still has it: %v", err)
	}
}
