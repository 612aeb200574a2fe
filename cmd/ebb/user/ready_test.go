package user

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// at is a service in a state of its rollout.
func at(created, ready string, status corev1.ConditionStatus, reason, message string) *v1.Service {
	all := int64(100)
	svc := &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "hello", Generation: 2}}
	svc.Status.ObservedGeneration = 2
	svc.Status.LatestCreatedRevisionName, svc.Status.LatestReadyRevisionName = created, ready
	svc.Status.Conditions = v1.Conditions{{Type: v1.ConditionReady, Status: status, Reason: reason, Message: message}}
	svc.Status.Traffic = []v1.TrafficTarget{{RevisionName: ready, Percent: &all}}
	return svc
}

// rolling follows a change of a service whose one revision is hello-00001; script tells
// the watch what happens, on a clock of its own.
func rolling(t *testing.T, script func(tell func(*v1.Service))) (lines []string, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		before := at("hello-00001", "hello-00001", corev1.ConditionTrue, "", "")
		r := newRollout(before, func(line string) { lines = append(lines, line) })
		defer r.end()
		w := watch.NewFake()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("too late"))
		defer cancel()
		go script(func(svc *v1.Service) { w.Modify(svc) })
		began := time.Now()
		_, err = r.follow(ctx, w)
		took = time.Since(began)
	})
	return lines, took, err
}

func TestStagesOfARollout(t *testing.T) {
	lines, _, err := rolling(t, func(tell func(*v1.Service)) {
		tell(at("hello-00001", "hello-00001", corev1.ConditionUnknown, "OutOfDate", "brought up to date"))
		tell(at("hello-00002", "hello-00001", corev1.ConditionUnknown, "ResolvingDigests", ""))
		tell(at("hello-00002", "hello-00001", corev1.ConditionUnknown, "ResolvingDigests", ""))
		time.Sleep(10 * time.Second) // on the test's clock
		tell(at("hello-00002", "hello-00002", corev1.ConditionUnknown, "Programming", "told"))
		tell(at("hello-00002", "hello-00002", corev1.ConditionTrue, "", ""))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "revision hello-00002 made\nwaiting: ResolvingDigests\nrevision hello-00002 ready\nserving: hello-00002 100%"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("lines\n%s\nwant\n%s", got, want)
	}
}

func TestAFailureThatPassesIsNone(t *testing.T) {
	_, _, err := rolling(t, func(tell func(*v1.Service)) {
		tell(at("hello-00002", "hello-00001", corev1.ConditionFalse, "RevisionFailed", "exit 1"))
		time.Sleep(2 * time.Second)
		tell(at("hello-00002", "hello-00001", corev1.ConditionUnknown, "", ""))
		time.Sleep(10 * time.Second)
		tell(at("hello-00002", "hello-00002", corev1.ConditionTrue, "", ""))
	})
	if err != nil {
		t.Errorf("it recovered, and the error is %v", err)
	}
}

func TestAFailureThatStaysIsTold(t *testing.T) {
	_, took, err := rolling(t, func(tell func(*v1.Service)) {
		for range 4 { // written again and again
			tell(at("hello-00002", "hello-00001", corev1.ConditionFalse, "RevisionFailed", "exit 1"))
			time.Sleep(500 * time.Millisecond)
		}
	})
	var failed *NotReadyError
	if !errors.As(err, &failed) || failed.Message != "exit 1" || took != failedFor {
		t.Errorf("after %s: %v; want the service's message after %s", took, err, failedFor)
	}
}
