package service

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// recorder notes what is added to a queue.
type recorder struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	now, later []string
}

func (r *recorder) Add(request reconcile.Request) { r.now = append(r.now, request.String()) }
func (r *recorder) AddAfter(request reconcile.Request, _ time.Duration) {
	r.later = append(r.later, request.String())
}

func TestFollow(t *testing.T) {
	child := func(kind, uid string, generation int64, ready ...string) *v1.Route {
		o := &v1.Route{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "child", Generation: generation}}
		o.Status.ObservedGeneration = 1
		if kind != "" {
			o.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "hello-" + uid, UID: types.UID(uid), Controller: new(true)}}
		}
		for _, status := range ready {
			switch status {
			case "True":
				o.Status.Conditions.SetTrue(v1.ConditionReady, time.Time{})
			case "False":
				o.Status.Conditions.SetFalse(v1.ConditionReady, "R", "", time.Time{})
			default:
				o.Status.Conditions.SetUnknown(v1.ConditionReady, "R", "", time.Time{})
			}
		}
		return o
	}
	h := follow(func(o client.Object) *v1.Status { return &o.(*v1.Route).Status.Status })
	for _, c := range []struct {
		name       string
		object     *v1.Route
		now, later int
	}{
		{"ready", child(v1.KindService, "a", 1, "True"), 1, 0},
		{"failed", child(v1.KindService, "a", 1, "False"), 1, 0},
		{"on its way", child(v1.KindService, "a", 1, "Unknown"), 0, 1},
		{"new", child(v1.KindService, "a", 1), 0, 1},
		{"has not seen its spec", child(v1.KindService, "a", 2, "True"), 0, 1},
		{"of nobody", child("", "", 1, "True"), 0, 0},
		{"of another kind", child("Other", "a", 1, "True"), 0, 0},
	} {
		for what, send := range map[string]func(*recorder){
			"create": func(q *recorder) { h.Create(t.Context(), event.CreateEvent{Object: c.object}, q) },
			"update": func(q *recorder) {
				h.Update(t.Context(), event.UpdateEvent{ObjectOld: c.object, ObjectNew: c.object}, q)
			},
		} {
			q := &recorder{}
			send(q)
			if len(q.now) != c.now || len(q.later) != c.later {
				t.Errorf("%s, %s: at once %v, later %v", c.name, what, q.now, q.later)
			}
		}
	}
	q := &recorder{}
	h.Delete(t.Context(), event.DeleteEvent{Object: child(v1.KindService, "a", 1, "Unknown")}, q)
	if len(q.now) != 1 || q.now[0] != "default/hello-a" {
		t.Errorf("a child that is gone: %v", q.now)
	}
	q = &recorder{}
	h.Update(t.Context(), event.UpdateEvent{ObjectOld: child(v1.KindService, "a", 1, "True"), ObjectNew: child("", "", 1, "True")}, q)
	if len(q.now) != 1 || q.now[0] != "default/hello-a" {
		t.Errorf("a child that was given away: %v", q.now)
	}
}

func TestItself(t *testing.T) {
	h := itself()
	base := v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello", UID: "a", Generation: 1, Labels: map[string]string{"a": "b"}}}
	for name, c := range map[string]struct {
		change     func(*v1.Service)
		now, later int
	}{
		"its status":        {func(s *v1.Service) { s.Status.ObservedGeneration = 1 }, 0, 1},
		"its spec":          {func(s *v1.Service) { s.Generation++ }, 1, 0},
		"a label":           {func(s *v1.Service) { s.Labels = nil }, 1, 0},
		"an annotation":     {func(s *v1.Service) { s.Annotations = map[string]string{"a": "b"} }, 1, 0},
		"another of a name": {func(s *v1.Service) { s.UID = "b" }, 1, 0},
	} {
		next := base.DeepCopy()
		c.change(next)
		q := &recorder{}
		h.Update(t.Context(), event.UpdateEvent{ObjectOld: &base, ObjectNew: next}, q)
		if len(q.now) != c.now || len(q.later) != c.later {
			t.Errorf("%s: at once %v, later %v", name, q.now, q.later)
		}
	}
	q := &recorder{}
	h.Create(t.Context(), event.CreateEvent{Object: &base}, q)
	if len(q.now) != 1 {
		t.Errorf("a new one: %v", q.now)
	}
}
