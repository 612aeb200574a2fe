package v1_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// anyService draws a Service that says some things and leaves others open.
func anyService(t *rapid.T) *v1.Service {
	s := &v1.Service{}
	s.Name, s.Namespace = "hello", "default"
	spec := &s.Spec.Template.Spec
	number := rapid.Int64Range(0, 600)
	if rapid.Bool().Draw(t, "timeout") {
		spec.TimeoutSeconds = new(number.Draw(t, "seconds"))
	}
	if rapid.Bool().Draw(t, "concurrency") {
		spec.ContainerConcurrency = new(number.Draw(t, "requests"))
	}
	names := rapid.SampledFrom([]string{"", "a", "user-container", "user-container-0"})
	container := func(label string) corev1.Container {
		c := corev1.Container{Name: names.Draw(t, label), Image: "hello"}
		if rapid.Bool().Draw(t, label+" port") {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		}
		if rapid.Bool().Draw(t, label+" probe") {
			c.ReadinessProbe = &corev1.Probe{PeriodSeconds: rapid.Int32Range(0, 2).Draw(t, "period")}
			if rapid.Bool().Draw(t, "get") {
				c.ReadinessProbe.HTTPGet = &corev1.HTTPGetAction{}
			}
		}
		return c
	}
	for range rapid.IntRange(0, 3).Draw(t, "containers") {
		spec.Containers = append(spec.Containers, container("container"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "init") {
		spec.InitContainers = append(spec.InitContainers, container("init"))
	}
	for range rapid.IntRange(0, 3).Draw(t, "targets") {
		s.Spec.Traffic = append(s.Spec.Traffic, v1.TrafficTarget{RevisionName: rapid.SampledFrom([]string{"", "hello-1"}).Draw(t, "revision")})
	}
	return s
}

func TestDefaultsAreIdempotent(t *testing.T) {
	st := settings.Default()
	for key, value := range map[string]string{"secure-pod-defaults": "Enabled"} {
		var err error
		if st, err = st.With(settings.ConfigFeatures, map[string]string{key: value}); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		once := anyService(t)
		once.SetDefaults(st)
		twice := once.DeepCopy()
		twice.SetDefaults(st)
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Fatal(diff)
		}
		for _, c := range append(once.Spec.Template.Spec.Containers, once.Spec.Template.Spec.InitContainers...) {
			if c.Name == "" {
				t.Fatal("a container without a name")
			}
		}
		once.Validate(st) // does not panic
	})
}

func TestDefaults(t *testing.T) {
	st := settings.Default()
	s := &v1.Service{}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: "a"}}
	s.SetDefaults(st)
	spec := s.Spec.Template.Spec
	if *spec.TimeoutSeconds != 300 || *spec.ContainerConcurrency != 0 || *spec.EnableServiceLinks || spec.Containers[0].Name != "user-container" {
		t.Errorf("%+v", spec)
	}
	if p := spec.Containers[0].ReadinessProbe; p.TCPSocket == nil || p.SuccessThreshold != 1 || p.PeriodSeconds != 0 {
		t.Errorf("%+v", p)
	}
	if tr := s.Spec.Traffic; len(tr) != 1 || !*tr[0].LatestRevision || *tr[0].Percent != 100 {
		t.Errorf("%+v", tr)
	}

	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: "a"}, {Image: "b", Name: "user-container-0"}, {Image: "c"}}
	s.SetDefaults(st)
	var names []string
	for _, c := range s.Spec.Template.Spec.Containers {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff([]string{"user-container-1", "user-container-0", "user-container-2"}, names); diff != "" {
		t.Error(diff)
	}

	st, err := st.With(settings.ConfigDefaults, map[string]string{"revision-timeout-seconds": "200", "revision-response-start-timeout-seconds": "100", "revision-cpu-limit": "1"})
	if err != nil {
		t.Fatal(err)
	}
	r := &v1.Revision{Spec: v1.RevisionSpec{PodSpec: corev1.PodSpec{Containers: []corev1.Container{{Image: "a"}}}}}
	r.SetDefaults(st)
	if *r.Spec.ResponseStartTimeoutSeconds != 100 || r.Spec.Containers[0].Resources.Limits.Cpu().String() != "1" {
		t.Errorf("%+v", r.Spec)
	}
}

func TestDefaultsOfTargetsProbesAndMounts(t *testing.T) {
	s := &v1.Service{}
	s.Spec.Traffic = []v1.TrafficTarget{{Percent: new(int64(100))}, {RevisionName: "a-1", Tag: "a"}}
	s.Spec.Template.Spec.Volumes = []corev1.Volume{
		{Name: "map", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
		{Name: "dir", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	s.Spec.Template.Spec.Containers = []corev1.Container{{
		Image: "a", LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}},
		VolumeMounts: []corev1.VolumeMount{{Name: "map", MountPath: "/m"}, {Name: "dir", MountPath: "/d"}},
	}}
	s.SetDefaults(settings.Default())
	if tag := s.Spec.Traffic[1]; tag.Percent == nil || *tag.Percent != 0 || *tag.LatestRevision {
		t.Errorf("a target with a tag alone: %+v", tag)
	}
	c := s.Spec.Template.Spec.Containers[0]
	if c.LivenessProbe.GRPC.Service == nil {
		t.Error("a gRPC probe without a service has none")
	}
	if !c.VolumeMounts[0].ReadOnly || c.VolumeMounts[1].ReadOnly {
		t.Errorf("mounts of a ConfigMap and an empty folder: %+v", c.VolumeMounts)
	}
}
