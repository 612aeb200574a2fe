package v1_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

func withTraffic(traffic []v1.TrafficTarget) *v1.Service {
	s := &v1.Service{}
	s.Name, s.Namespace = "hello", "default"
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: "a"}}
	s.Spec.Traffic = traffic
	s.SetDefaults(settings.Default())
	return s
}

// sound says whether admitted traffic can be served: that of whoever reads it later.
func sound(s *v1.Service) error {
	var sum int64
	tags := map[string]bool{}
	for _, target := range s.Spec.Traffic {
		if target.Percent == nil || *target.Percent < 0 || *target.Percent > 100 {
			return fmt.Errorf("percent of %+v", target)
		}
		sum += *target.Percent
		if *target.LatestRevision != (target.RevisionName == "") || target.ConfigurationName != "" || target.URL != "" {
			return fmt.Errorf("reference of %+v", target)
		}
		if target.Tag == "" {
			continue
		}
		host, err := settings.Default().TagHost(target.Tag, settings.RouteName{Name: s.Name, Namespace: s.Namespace})
		if err != nil || len(validation.IsDNS1123Subdomain(host)) > 0 || len(validation.IsDNS1035Label(target.Tag)) > 0 || tags[target.Tag] {
			return fmt.Errorf("tag of %+v: host %q, %w", target, host, err)
		}
		tags[target.Tag] = true
	}
	if sum != 100 {
		return fmt.Errorf("sum %d", sum)
	}
	return nil
}

// TestTraffic draws traffic: it is admitted exactly when it can be served.
func TestTraffic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var traffic []v1.TrafficTarget
		for range rapid.IntRange(0, 4).Draw(t, "targets") {
			var target v1.TrafficTarget
			if rapid.IntRange(0, 3).Draw(t, "has percent") > 0 {
				target.Percent = new(rapid.SampledFrom([]int64{0, 25, 50, 75, 100, -1, 101, 1 << 62}).Draw(t, "percent"))
			}
			target.Tag = rapid.SampledFrom([]string{"", "", "", "a", "b", "A", "a.b", strings.Repeat("t", 60)}).Draw(t, "tag")
			target.RevisionName = rapid.SampledFrom([]string{"", "hello-00001", "hello-00002"}).Draw(t, "revision")
			if rapid.IntRange(0, 3).Draw(t, "says latest") == 0 {
				target.LatestRevision = new(rapid.Bool().Draw(t, "latest"))
			}
			traffic = append(traffic, target)
		}
		s := withTraffic(traffic)
		errs, err := s.Validate(settings.Default()), sound(s)
		if (len(errs) == 0) != (err == nil) {
			t.Fatalf("%+v: refused by %v, and %v", traffic, errs.ToAggregate(), err)
		}
	})
}

// FuzzTraffic: whatever JSON is the traffic, it is refused or can be served.
func FuzzTraffic(f *testing.F) {
	for _, text := range []string{
		`[{"latestRevision":true,"percent":100}]`, `[{"revisionName":"hello-00001","percent":60,"tag":"a"},{"percent":40}]`,
		`[{"percent":9223372036854775807},{"percent":9223372036854775807},{"percent":102}]`, `[{"configurationName":"x","percent":100}]`,
		`[{"tag":"a","url":"http://x"},{}]`, `[null]`, `[]`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var traffic []v1.TrafficTarget
		if json.Unmarshal([]byte(text), &traffic) != nil {
			return
		}
		s := withTraffic(traffic)
		if len(s.Validate(settings.Default())) > 0 {
			return
		}
		if err := sound(s); err != nil {
			t.Fatalf("admitted: %v", err)
		}
	})
}

// FuzzAnnotations: durations and words of annotations and images are refused or mean
// what those who read them later take them for.
func FuzzAnnotations(f *testing.F) {
	for _, text := range []string{"30s", "1m30s", "0", "-1s", "1500ms", "9223372036854775807ns", "2562047h47m16s", "1e3s", "", " 5s", "true"} {
		f.Add(text, text, "example.com/a:v1")
	}
	for _, image := range []string{"a", "a/b@sha256:" + strings.Repeat("0", 64), "localhost:5000/a:t", "a:b:c", "a@sha256:0", strings.Repeat("a/", 500), "A", "host:99999/a", "[::1]:5000/a", "a/b\x00"} {
		f.Add("30s", "30s", image)
	}
	f.Fuzz(func(t *testing.T, rollout, deadline, image string) {
		s := withTraffic(nil)
		s.Annotations = map[string]string{serving.RolloutDurationAnnotation: rollout}
		s.Spec.Template.Annotations = map[string]string{serving.ProgressDeadlineAnnotation: deadline}
		s.Spec.Template.Spec.Containers[0].Image = image
		if len(s.Validate(settings.Default())) > 0 {
			return
		}
		for _, text := range []string{rollout, deadline} {
			if d, err := time.ParseDuration(text); text != "" && (err != nil || d < 0 || d%time.Second != 0) {
				t.Fatalf("%q is admitted as a duration", text)
			}
		}
		if image == "" || strings.ContainsAny(image, " \t\n\x00") {
			t.Fatalf("%q is admitted as an image", image)
		}
	})
}
