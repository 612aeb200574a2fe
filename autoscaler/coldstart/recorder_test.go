package coldstart

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ebb.dev/ebb/apis/serving"
)

var zero = time.Unix(1_000_000, 0)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

func shown(r *Recorder) string {
	s, ok := r.Last("ns", "r")
	if !ok {
		return "none"
	}
	var words []string
	for _, p := range s.Parts() {
		words = append(words, fmt.Sprintf("%s %g (%g)", p.Step, p.Since, p.Took))
	}
	return strings.Join(words, ", ")
}

func expect(t *testing.T, r *Recorder, want string) {
	t.Helper()
	if have := shown(r); have != want {
		t.Errorf("the last start is\n  %s, want\n  %s", have, want)
	}
}

// TestSeen is a start on a kubelet, whose times are in whole seconds: a step counts from when it is heard of.
func TestSeen(t *testing.T) {
	r := NewRecorder()
	expect(t, r, "none")
	r.Scaled("ns", "r", at(1)) // of no start
	r.Arrived("ns", "r", at(0))
	r.Arrived("ns", "r", at(3)) // the next request
	r.Scaled("ns", "r", at(5))
	r.Pod("ns", "r", serving.StartTimes{Created: zero.Add(-time.Minute), Started: zero.Add(-time.Minute), Coarse: true}, at(6)) // of before
	expect(t, r, "scaled 5 (5)")
	pod := serving.StartTimes{Created: zero, Coarse: true}
	r.Pod("ns", "r", pod, at(10))
	pod.Scheduled = zero
	r.Pod("ns", "r", pod, at(20))
	pod.Started = zero
	r.Pod("ns", "r", pod, at(200))
	r.Pod("ns", "r", pod, at(300))
	r.Forwarded("ns", "r", 250*time.Millisecond, 260*time.Millisecond)
	const want = "scaled 5 (5), created 10 (5), scheduled 20 (10), started 200 (180), probed 250 (50), forwarded 260 (10)"
	expect(t, r, want)
	r.Pod("ns", "r", pod, at(900)) // it is over
	r.Forwarded("ns", "r", 0, time.Hour)
	expect(t, r, want)
	if err := testutil.CollectAndCompare(r.all, strings.NewReader(""), "none"); err != nil || testutil.CollectAndCount(r.took) != int(steps) {
		t.Errorf("%d steps have a histogram, want %d; %v", testutil.CollectAndCount(r.took), steps, err)
	}
	r.Arrived("ns", "r", at(60_000))
	expect(t, r, "")
	r.Forget("ns", "r")
	expect(t, r, "none")
}

// TestNodeTimes is a start on a node that says when exactly, after it was seen.
func TestNodeTimes(t *testing.T) {
	r := NewRecorder()
	r.Arrived("ns", "r", at(0))
	r.Pod("ns", "r", serving.StartTimes{Created: zero, Coarse: true}, at(30))
	r.Pod("ns", "r", serving.StartTimes{Created: at(8), Scheduled: at(11), Pulled: at(12), Started: at(40)}, at(55))
	r.Scaled("ns", "r", at(9)) // the answer to the write came after the pod
	r.Forwarded("ns", "r", 0, 70*time.Millisecond)
	expect(t, r, "scaled 9 (9), created 9 (0), scheduled 11 (2), pulled 12 (1), started 40 (28), forwarded 70 (30)")
}

// TestAbandoned: a start that never ended gives way to the next, later on.
func TestAbandoned(t *testing.T) {
	r := NewRecorder()
	r.Arrived("ns", "r", at(0))
	r.Scaled("ns", "r", at(7))
	r.Arrived("ns", "r", zero.Add(abandoned-1))
	expect(t, r, "scaled 7 (7)")
	r.Arrived("ns", "r", zero.Add(abandoned))
	expect(t, r, "")
}

// TestBound: of more revisions than are kept, those that started last are.
func TestBound(t *testing.T) {
	r := NewRecorder()
	for i := range keep + 10 {
		r.Arrived("ns", fmt.Sprint(i), at(i))
	}
	if _, ok := r.Last("ns", "9"); ok || len(r.byKey) != keep || r.oldest.Len() != keep {
		t.Errorf("%d are kept", len(r.byKey))
	}
	if _, ok := r.Last("ns", "10"); !ok {
		t.Error("too much is forgotten")
	}
	(*Recorder)(nil).Arrived("ns", "r", zero)
}
