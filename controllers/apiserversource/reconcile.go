package apiserversource

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/eventing/duck"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	sinks "ebb.dev/ebb/controllers/source"
	"ebb.dev/ebb/controllers/topic"
	events "ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/filter"
	"ebb.dev/ebb/eventing/sources"
	"ebb.dev/ebb/eventing/sources/apiserver"
	"ebb.dev/ebb/eventing/translate"
)

const (
	owner     = "ebb-apiserversource"
	bySink    = "ebb.apiserversource.sink"
	noteEvery = 10 * time.Second
)

// Options of the controller; all are required.
type Options struct {
	Sinks  *sink.Resolver
	Sender *sources.Sender
	Logger *slog.Logger
}

// Add puts the controller and the runner into mgr. It does not block; both work in the leader.
func Add(mgr ctrl.Manager, opts Options) error {
	if opts.Sinks == nil || opts.Sender == nil || opts.Logger == nil {
		return fmt.Errorf("add the apiserversource controller: all of Options are required")
	}
	changed := make(chan event.GenericEvent, 1024)
	r := &reconciler{
		Client: mgr.GetClient(), config: mgr.GetConfig(), mapper: mgr.GetRESTMapper(), sinks: opts.Sinks, sender: opts.Sender, now: time.Now,
		uids: map[client.ObjectKey]types.UID{}, noted: map[types.UID]time.Time{}, clients: map[string]dynamic.Interface{},
	}
	r.runner = apiserver.NewRunner(opts.Logger, func(namespace, name string) {
		o := &sourcesv1.ApiServerSource{}
		o.Namespace, o.Name = namespace, name
		select {
		case changed <- event.GenericEvent{Object: o}:
		default: // the next change will do
		}
	})
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { r.runner.Run(ctx); return nil })); err != nil {
		return fmt.Errorf("add the runner of ApiServerSources: %w", err)
	}
	keys := func(list client.ObjectList) (keys []client.ObjectKey) {
		for i := range list.(*sourcesv1.ApiServerSourceList).Items {
			keys = append(keys, client.ObjectKeyFromObject(&list.(*sourcesv1.ApiServerSourceList).Items[i]))
		}
		return keys
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("apiserversource").
		// The status is written by this controller alone.
		For(&sourcesv1.ApiServerSource{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) (requests []reconcile.Request) {
			list := &sourcesv1.ApiServerSourceList{}
			if err := r.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "ApiServerSources that a namespace concerns could not be listed")
			}
			for i := range list.Items {
				if list.Items[i].Spec.NamespaceSelector != nil {
					requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
				}
			}
			return requests
		}), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(source.Channel(changed, &handler.EnqueueRequestForObject{}))
	b, err := sinks.Watch(mgr, b, bySink, &sourcesv1.ApiServerSource{}, func() client.ObjectList { return &sourcesv1.ApiServerSourceList{} },
		func(o client.Object) *duck.SourceSpec { return &o.(*sourcesv1.ApiServerSource).Spec.SourceSpec }, keys)
	if err != nil {
		return err
	}
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the apiserversource controller: %w", err)
	}
	return nil
}

type reconciler struct {
	client.Client
	config *rest.Config
	mapper meta.RESTMapper
	sinks  *sink.Resolver
	sender *sources.Sender
	runner *apiserver.Runner
	now    func() time.Time

	mu    sync.Mutex
	uids  map[client.ObjectKey]types.UID // of those that the runner has
	noted map[types.UID]time.Time        // when versions were written down last
	// clients by the user that they act as.
	clients map[string]dynamic.Interface
}

// Reconcile hands one ApiServerSource to the runner, and brings its status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &sourcesv1.ApiServerSource{}
	err := r.Get(ctx, req.NamespacedName, o)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	gone := apierrors.IsNotFound(err) || o.DeletionTimestamp != nil
	r.forget(req.NamespacedName, o.UID, gone)
	if gone {
		return ctrl.Result{}, nil
	}
	next := o.DeepCopy()
	again, workErr := r.work(ctx, o, next)
	_, err = apply.Status(ctx, r.Client, owner, next, o)
	return ctrl.Result{RequeueAfter: again}, errors.Join(workErr, client.IgnoreNotFound(err))
}

// forget takes from the runner what went, or was made anew.
func (r *reconciler) forget(key client.ObjectKey, uid types.UID, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if had, ok := r.uids[key]; ok && (gone || had != uid) {
		r.runner.Remove(string(had))
		delete(r.uids, key)
		delete(r.noted, had)
	}
}

func (r *reconciler) work(ctx context.Context, o, next *sourcesv1.ApiServerSource) (time.Duration, error) {
	now, status := r.now(), &next.Status
	status.ObservedGeneration = o.Generation
	conditions := &status.Conditions
	status.CloudEventAttributes = nil
	kind := "ref"
	if o.Spec.EventMode == sourcesv1.ResourceMode {
		kind = "resource"
	}
	for _, verb := range []string{"add", "delete", "update"} {
		status.CloudEventAttributes = append(status.CloudEventAttributes, duck.CloudEventAttributes{Type: "dev.knative.apiserver." + kind + "." + verb, Source: r.config.Host})
	}
	defer func() { conditions.Aggregate(sourcesv1.ApiServerSourceDependents(), now) }()
	a, again, err := sinks.Resolve(ctx, r.sinks, &o.Spec.SourceSpec, &status.SourceStatus, o.Namespace, now)
	if err != nil {
		return again, err
	}
	not := func(reason, message string) (time.Duration, error) {
		conditions.SetFalse(sourcesv1.Deployed, reason, sink.Sentence(message), now)
		return topic.LookAgain, nil
	}
	matcher, err := filter.Compile(translate.FiltersOf(o.Spec.Filters))
	if err != nil {
		return not(sourcesv1.ReasonSpecInvalid, "spec."+err.Error())
	}
	resources, err := r.resources(o)
	if meta.IsNoMatchError(err) {
		return not(sourcesv1.ReasonSpecInvalid, err.Error())
	} else if err != nil {
		return again, err
	}
	namespaces, err := r.namespaces(ctx, o)
	if err != nil {
		return again, err
	}
	status.Namespaces = namespaces
	if a.URL == "" {
		conditions.SetUnknown(sourcesv1.Deployed, sourcesv1.ReasonSpecInvalid, "Nothing is watched before there is a sink.", now)
		return again, nil
	}
	if err := r.set(o, a, resources, namespaces, matcher); err != nil {
		return again, err
	}
	r.observe(o, next, now)
	if wait := r.note(o, next, now); wait > 0 && (again == 0 || wait < again) {
		again = wait
	}
	return again, nil
}

// resources are the kinds of the spec as the API server has them.
func (r *reconciler) resources(o *sourcesv1.ApiServerSource) ([]apiserver.Resource, error) {
	var out []apiserver.Resource
	for _, of := range o.Spec.Resources {
		gvk := schema.FromAPIVersionAndKind(of.APIVersion, of.Kind)
		mapping, err := r.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return nil, err
		}
		selector := ""
		if of.LabelSelector != nil {
			selector = metav1.FormatLabelSelector(of.LabelSelector)
		}
		out = append(out, apiserver.Resource{
			GVR: mapping.Resource, APIVersion: of.APIVersion, Kind: of.Kind, Namespaced: mapping.Scope.Name() == meta.RESTScopeNameNamespace, Selector: selector,
		})
	}
	return out, nil
}

// namespaces are those that are watched; one "" is all.
func (r *reconciler) namespaces(ctx context.Context, o *sourcesv1.ApiServerSource) ([]string, error) {
	selector := o.Spec.NamespaceSelector
	switch {
	case selector == nil:
		return []string{o.Namespace}, nil
	case len(selector.MatchLabels) == 0 && len(selector.MatchExpressions) == 0:
		return []string{metav1.NamespaceAll}, nil
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, err
	}
	list := &corev1.NamespaceList{}
	if err := r.List(ctx, list, client.MatchingLabelsSelector{Selector: parsed}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

// set hands the source to the runner.
func (r *reconciler) set(o *sourcesv1.ApiServerSource, a sink.Address, resources []apiserver.Resource, namespaces []string, matcher *filter.Matcher) error {
	fingerprint, err := json.Marshal([]any{o.Spec, a.URL, a.Topic, namespaces})
	if err != nil {
		return err
	}
	c, err := r.as("system:serviceaccount:" + o.Namespace + ":" + cmp.Or(o.Spec.ServiceAccountName, "default"))
	if err != nil {
		return err
	}
	to := sources.Sink{URL: a.URL, Topic: a.Topic}
	one := apiserver.Source{
		UID: string(o.UID), Namespace: o.Namespace, Name: o.Name, Fingerprint: string(fingerprint),
		Resources: resources, Namespaces: namespaces, Whole: o.Spec.EventMode == sourcesv1.ResourceMode, From: r.config.Host,
		Match: matcher.Match, Send: func(ctx context.Context, e *events.Event) error { return r.sender.Send(ctx, to, e) },
		Client: c, Versions: map[string]string{},
	}
	if w := o.Spec.ResourceOwner; w != nil {
		one.OwnerAPIVersion, one.OwnerKind = w.APIVersion, w.Kind
	}
	if o.Spec.CloudEventOverrides != nil {
		one.Extensions = o.Spec.CloudEventOverrides.Extensions
	}
	_ = json.Unmarshal([]byte(o.Status.Annotations[sourcesv1.VersionsAnnotation]), &one.Versions) // without them all is sent anew
	r.mu.Lock()
	r.uids[client.ObjectKeyFromObject(o)] = o.UID
	r.mu.Unlock()
	r.runner.Set(one)
	return nil
}

// as is a client that acts as a user.
func (r *reconciler) as(user string) (dynamic.Interface, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[user]; c != nil {
		return c, nil
	}
	config := rest.CopyConfig(r.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	r.clients[user] = c
	return c, nil
}

// observe says how the streams are.
func (r *reconciler) observe(o, next *sourcesv1.ApiServerSource, now time.Time) {
	conditions := &next.Status.Conditions
	_, problems, begun, _ := r.runner.State(string(o.UID))
	var denied, other error
	for _, name := range slices.Sorted(maps.Keys(problems)) {
		if apiserver.Denied(problems[name]) {
			denied = errors.Join(denied, problems[name])
		} else {
			other = errors.Join(other, problems[name])
		}
	}
	switch {
	case denied != nil:
		conditions.SetFalse(sourcesv1.SufficientPermissions, sourcesv1.ReasonForbidden, sink.Sentence(denied.Error()), now)
	case begun:
		conditions.SetTrue(sourcesv1.SufficientPermissions, now)
	default:
		conditions.SetUnknown(sourcesv1.SufficientPermissions, sourcesv1.ReasonNotBegun, "Not every kind is watched yet.", now)
	}
	switch {
	case other != nil:
		conditions.SetFalse(sourcesv1.Deployed, sourcesv1.ReasonWatchFailed, sink.Sentence(other.Error()), now)
	case begun:
		conditions.SetTrue(sourcesv1.Deployed, now)
	default:
		conditions.SetUnknown(sourcesv1.Deployed, sourcesv1.ReasonNotBegun, "Not every kind is watched yet.", now)
	}
}

// note writes down the versions, not too often; it returns when to do so, 0: it was done.
func (r *reconciler) note(o, next *sourcesv1.ApiServerSource, now time.Time) time.Duration {
	versions, _, _, _ := r.runner.State(string(o.UID))
	text, err := json.Marshal(versions)
	if err != nil || string(text) == o.Status.Annotations[sourcesv1.VersionsAnnotation] {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if wait := noteEvery - now.Sub(r.noted[o.UID]); wait > 0 {
		return wait
	}
	r.noted[o.UID] = now
	topic.Note(&next.Status.Status, sourcesv1.VersionsAnnotation, string(text))
	return 0
}
