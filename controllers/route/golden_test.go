package route

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/test/golden"
)

// assigned is one input of assign.
type assigned struct {
	Route          *v1.Route                    `json:"route"`
	Configurations map[string]*v1.Configuration `json:"configurations"`
	Revisions      map[string]*v1.Revision      `json:"revisions"`
}

func external(t *testing.T) *settings.Settings {
	t.Helper()
	s, err := settings.Default().With(settings.ConfigDomain, map[string]string{"example.com": ""})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAssign(t *testing.T) {
	s := external(t)
	golden.Run(t, "testdata/assign", func(in assigned) (any, error) {
		before := in.Route.DeepCopy()
		traffic, problem := assign(in.Route, targets{in.Configurations, in.Revisions})
		status := v1.RouteStatus{RouteStatusFields: v1.RouteStatusFields{Traffic: traffic}}
		if err := urls(in.Route, s, &status); err != nil {
			return nil, err
		}
		if diff := cmp.Diff(before, in.Route); diff != "" {
			t.Errorf("the input was changed:\n%s", diff)
		}
		return map[string]any{"condition": problem, "status": status.RouteStatusFields}, nil
	})
}

func TestMakeServices(t *testing.T) {
	s := external(t)
	golden.Run(t, "testdata/services", func(r *v1.Route) (any, error) {
		return makeServices(r, r.Status.Traffic, s, "ebb-gateway-internal.ebb-system.svc.cluster.local")
	})
}

func TestRouting(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const before, at = "2020-01-01T00:00:00Z", "2026-01-02T03:04:05Z"
	for _, tc := range []struct {
		name, state, noted string
		routes             []string
		wantState, since   string
		same               bool
	}{
		{"new", serving.RoutingStatePending, "", []string{"a"}, serving.RoutingStateActive, at, false},
		{"one more route", serving.RoutingStateActive, "a", []string{"a", "b"}, serving.RoutingStateActive, before, false},
		{"settled", serving.RoutingStateActive, "a,b", []string{"a", "b"}, serving.RoutingStateActive, before, true},
		{"no route any more", serving.RoutingStateActive, "a", nil, serving.RoutingStateReserve, at, false},
		{"still none", serving.RoutingStateReserve, "", nil, serving.RoutingStateReserve, before, true},
	} {
		rev := &v1.Revision{}
		rev.Labels = map[string]string{serving.RoutingStateLabel: tc.state}
		rev.Annotations = map[string]string{serving.RoutingStateModifiedAnnotation: before}
		if tc.noted != "" {
			rev.Annotations[serving.RoutesAnnotation] = tc.noted
		}
		labels, annotations, same := routing(rev, tc.routes, now)
		if labels[serving.RoutingStateLabel] != tc.wantState || annotations[serving.RoutingStateModifiedAnnotation] != tc.since || same != tc.same {
			t.Errorf("%s: got %v %v %v", tc.name, labels, annotations, same)
		}
	}
}
