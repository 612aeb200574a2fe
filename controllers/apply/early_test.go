package apply

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

func TestEarly(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ready := func(set func(*v1.Conditions)) *v1.Status {
		s := &v1.Status{ObservedGeneration: 1}
		set(&s.Conditions)
		return s
	}
	unknown := ready(func(c *v1.Conditions) { c.SetUnknown(v1.ConditionReady, "R", "", made) })
	for name, c := range map[string]struct {
		was, is *v1.Status
		age     time.Duration
		want    time.Duration
	}{
		"new":                     {&v1.Status{}, unknown, 0, firstWord},
		"a while ago":             {&v1.Status{}, unknown, firstWord - time.Millisecond, time.Millisecond},
		"it takes long":           {&v1.Status{}, unknown, firstWord, 0},
		"made in the next second": {&v1.Status{}, unknown, -time.Second, firstWord},
		"the clocks do not agree": {&v1.Status{}, unknown, -time.Hour, 0},
		"it has a status":         {&v1.Status{ObservedGeneration: 1}, unknown, 0, 0},
		"it is ready":             {&v1.Status{}, ready(func(c *v1.Conditions) { c.SetTrue(v1.ConditionReady, made) }), 0, 0},
		"it failed":               {&v1.Status{}, ready(func(c *v1.Conditions) { c.SetFalse(v1.ConditionReady, "R", "", made) }), 0, 0},
	} {
		o := &v1.Route{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}}
		if got := Early(o, c.was, c.is, made.Add(c.age)); got != c.want {
			t.Errorf("%s: waits %v, want %v", name, got, c.want)
		}
	}
}
