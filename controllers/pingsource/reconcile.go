package pingsource

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"ebb.dev/ebb/apis/eventing/duck"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/controllers/apply"
	"ebb.dev/ebb/controllers/sink"
	sinks "ebb.dev/ebb/controllers/source"
	"ebb.dev/ebb/controllers/topic"
	events "ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/sources"
	"ebb.dev/ebb/eventing/sources/ping"
)

const (
	owner  = "ebb-pingsource"
	bySink = "ebb.pingsource.sink"
)

// How far the note in the status may be behind.
const (
	noteEvery       = 10 * time.Second
	noteEveryStored = time.Minute
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
		return fmt.Errorf("add the pingsource controller: all of Options are required")
	}
	moved := make(chan event.GenericEvent, 1024)
	r := &reconciler{Client: mgr.GetClient(), sinks: opts.Sinks, sender: opts.Sender, now: time.Now, uids: map[client.ObjectKey]types.UID{}}
	r.runner = ping.NewRunner(opts.Logger, func(_, namespace, name string) {
		o := &sourcesv1.PingSource{}
		o.Namespace, o.Name = namespace, name
		select {
		case moved <- event.GenericEvent{Object: o}:
		default: // the next tick will do
		}
	})
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { r.runner.Run(ctx); return nil })); err != nil {
		return fmt.Errorf("add the runner of PingSources: %w", err)
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("pingsource").
		// The status is written by this controller alone.
		For(&sourcesv1.PingSource{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesRawSource(source.Channel(moved, &handler.EnqueueRequestForObject{}))
	b, err := sinks.Watch(mgr, b, bySink, &sourcesv1.PingSource{}, func() client.ObjectList { return &sourcesv1.PingSourceList{} },
		func(o client.Object) *duck.SourceSpec { return &o.(*sourcesv1.PingSource).Spec.SourceSpec },
		func(list client.ObjectList) (keys []client.ObjectKey) {
			for i := range list.(*sourcesv1.PingSourceList).Items {
				keys = append(keys, client.ObjectKeyFromObject(&list.(*sourcesv1.PingSourceList).Items[i]))
			}
			return keys
		})
	if err != nil {
		return err
	}
	if err := b.Complete(apply.UnlessLeaving(r)); err != nil {
		return fmt.Errorf("add the pingsource controller: %w", err)
	}
	return nil
}

type reconciler struct {
	client.Client
	sinks  *sink.Resolver
	sender *sources.Sender
	runner *ping.Runner
	now    func() time.Time

	mu   sync.Mutex
	uids map[client.ObjectKey]types.UID // of those that the runner has
}

// Reconcile hands one PingSource to the runner, and brings its status up to date.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &sourcesv1.PingSource{}
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
	}
}

func (r *reconciler) work(ctx context.Context, o, next *sourcesv1.PingSource) (time.Duration, error) {
	now, status := r.now(), &next.Status
	status.ObservedGeneration = o.Generation
	status.CloudEventAttributes = []duck.CloudEventAttributes{{Type: ping.Type, Source: ping.SourceOf(o.Namespace, o.Name)}}
	defer func() { status.Conditions.Aggregate(sourcesv1.PingSourceDependents(), now) }()
	a, again, err := sinks.Resolve(ctx, r.sinks, &o.Spec.SourceSpec, &status.SourceStatus, o.Namespace, now)
	if err != nil {
		return again, err
	}
	schedule, wrong := sourcesv1.ParseSchedule(cmp.Or(o.Spec.Schedule, sourcesv1.DefaultSchedule), o.Spec.Timezone)
	if wrong != nil {
		status.Conditions.SetFalse(sourcesv1.Deployed, sourcesv1.ReasonScheduleInvalid, sink.Sentence("spec."+wrong.Error()), now)
		return again, nil
	}
	status.Conditions.SetTrue(sourcesv1.Deployed, now)

	noted, _ := time.Parse(time.RFC3339Nano, o.Status.Annotations[sourcesv1.LastTickAnnotation])
	if last, running := r.runner.Last(string(o.UID)); running {
		every := noteEvery
		if a.Topic != "" {
			every = noteEveryStored
		}
		if last.Sub(noted) >= every {
			noted = last
		}
	}
	if noted.IsZero() || o.Status.SinkURI == "" {
		noted = now // what there was before there was a sink is not made up for
	}
	topic.Note(&status.Status, sourcesv1.LastTickAnnotation, noted.UTC().Format(time.RFC3339Nano))
	if a.URL == "" {
		return again, nil // nowhere to send to yet
	}
	data := []byte(o.Spec.Data)
	if o.Spec.DataBase64 != "" {
		if data, err = base64.StdEncoding.DecodeString(o.Spec.DataBase64); err != nil {
			status.Conditions.SetFalse(sourcesv1.Deployed, sourcesv1.ReasonScheduleInvalid, "spec.dataBase64 is not base64.", now)
			return again, nil
		}
	}
	to := sources.Sink{URL: a.URL, Topic: a.Topic}
	one := ping.Source{
		UID: string(o.UID), Namespace: o.Namespace, Name: o.Name, Schedule: o.Spec.Schedule + " " + o.Spec.Timezone, Next: schedule.Next, After: noted,
		ContentType: o.Spec.ContentType, Data: data,
		Send: func(ctx context.Context, e *events.Event) error { return r.sender.Send(ctx, to, e) },
	}
	if o.Spec.CloudEventOverrides != nil {
		one.Extensions = o.Spec.CloudEventOverrides.Extensions
	}
	r.mu.Lock()
	r.uids[client.ObjectKeyFromObject(o)] = o.UID
	r.mu.Unlock()
	r.runner.Set(one)
	return again, nil
}
