package settings_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/apis/settings"
)

func TestBadValuesKeepTheLastGood(t *testing.T) {
	for _, c := range []struct{ configMap, key, value, want string }{
		{"config-autoscaler", "stable-window", "5s", "outside 6s..1h"},
		{"config-autoscaler", "stable-window", "soon", "not a duration"},
		{"config-autoscaler", "stable-windows", "60s", `did you mean "stable-window"`},
		{"config-autoscaler", "max-scale-down-rate", "1", "not above 1"},
		{"config-autoscaler", "target-burst-capacity", "-0.5", "neither -1"},
		{"config-autoscaler", "initial-scale", "0", "allow-zero-initial-scale"},
		{"config-autoscaler", "max-scale-limit", "5", "max-scale"},
		{"config-autoscaler", "panic-window-percentage", "NaN", "not a number"},
		{"config-defaults", "revision-timeout-seconds", "601", "above max-revision-timeout-seconds"},
		{"config-defaults", "container-concurrency", "1001", "container-concurrency-max-limit"},
		{"config-defaults", "revision-cpu-request", "much", "not an amount"},
		{"config-defaults", "container-name-template", "{{.Nope}}", "Nope"},
		{"config-defaults", "container-name-template", "UP", "lowercase"},
		{"config-network", "domain-template", "{{.Name}", "not a template"},
		{"config-network", "domain-template", "{{.Name}}/{{.Domain}}", "not a host name"},
		{"config-network", "external-port", "http", "not a port"},
		{"config-network", "http-protocol", "off", "not one of"},
		{"config-domain", "Exa_mple", "", "not a domain"},
		{"config-domain", "example.com", "selectr: {}", "selector"},
		{"config-ebb-gateway", "request-headers-timeout", "0s", "outside"},
		{"config-ebb-gateway", "max-request-headers-kb", "513", "outside"},
		{"config-gc", "max-non-active-revisions", "1", "below min-non-active-revisions"},
		{"config-deployment", "progress-deadline", "1500ms", "whole seconds"},
		{"config-features", "kubernetes.podspec-affinity", "maybe", "not one of"},
		{"config-features", "kubernetes.podspec-afinity", "Enabled", "did you mean"},
	} {
		t.Run(c.configMap+"/"+c.key, func(t *testing.T) {
			store := settings.NewStore()
			before := store.Load()
			err := store.Update(c.configMap, map[string]string{c.key: c.value})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.configMap+"/") {
				t.Fatalf("error %v, want %s/… with %q", err, c.configMap, c.want)
			}
			if store.Load() != before {
				t.Error("the settings changed")
			}
		})
	}
	if err := settings.NewStore().Update("config-nope", nil); !errors.Is(err, settings.ErrUnknownConfigMap) {
		t.Errorf("unknown ConfigMap: %v", err)
	}
}

func TestUpdateTellsSubscribers(t *testing.T) {
	store := settings.NewStore()
	changes := store.Subscribe()
	if err := store.Update(settings.ConfigGC, map[string]string{"_example": "anything", "max-non-active-revisions": "disabled"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changes:
	default:
		t.Error("no change was told")
	}
	if got := store.Load().GC.MaxNonActiveRevisions; got != settings.Never {
		t.Errorf("max %d", got)
	}
	if err := store.Update(settings.ConfigGC, nil); err != nil || store.Load().GC.MaxNonActiveRevisions != 1000 {
		t.Errorf("without the ConfigMap: %d, %v", store.Load().GC.MaxNonActiveRevisions, err)
	}
}

func TestHosts(t *testing.T) {
	store := settings.NewStore()
	route := settings.RouteName{Name: "hello", Namespace: "default"}
	host := func(r settings.RouteName) string {
		t.Helper()
		h, err := store.Load().Host(r)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if got := host(route); got != "hello.default.svc.cluster.local" {
		t.Errorf("without config-domain: %s", got)
	}
	if err := store.Update(settings.ConfigDomain, map[string]string{
		"localhost": "", "a.example.com": "selector: {app: x}", "b.example.com": "selector: {app: x, tier: z}", "svc.cluster.local": "selector: {private: \"yes\"}",
	}); err != nil {
		t.Fatal(err)
	}
	if err := store.Update(settings.ConfigNetwork, map[string]string{"external-port": "8080"}); err != nil {
		t.Fatal(err)
	}
	s := store.Load()
	for _, c := range []struct {
		labels    map[string]string
		host, url string
	}{
		{nil, "hello.default.localhost", "http://hello.default.localhost:8080"},
		{map[string]string{"app": "x"}, "hello.default.a.example.com", "http://hello.default.a.example.com:8080"},
		{map[string]string{"app": "x", "tier": "z"}, "hello.default.b.example.com", "http://hello.default.b.example.com:8080"},
		{map[string]string{"private": "yes"}, "hello.default.svc.cluster.local", "http://hello.default.svc.cluster.local"},
		{map[string]string{serving.VisibilityLabel: "cluster-local"}, "hello.default.svc.cluster.local", "http://hello.default.svc.cluster.local"},
	} {
		route.Labels = c.labels
		if got := host(route); got != c.host || s.URL(got) != c.url {
			t.Errorf("%v: %s %s", c.labels, got, s.URL(got))
		}
	}
	route.Labels = nil
	if got, err := s.TagHost("blue", route); err != nil || got != "blue-hello.default.localhost" {
		t.Errorf("tag: %s %v", got, err)
	}
	route.Name = strings.Repeat("x", 63)
	if _, err := s.TagHost("blue", route); err == nil {
		t.Error("a label longer than 63 is a host name")
	}
}

func TestParseAutoscaling(t *testing.T) {
	prefix := serving.AutoscalingGroup + "/"
	parse := func(concurrency int64, layers ...map[string]string) settings.Autoscaling {
		t.Helper()
		for _, l := range layers {
			for k, v := range l {
				delete(l, k)
				l[prefix+k] = v
			}
		}
		a, errs := settings.ParseAutoscaling(settings.Default().Autoscaler, concurrency, layers...)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return a
	}
	m := func(kv ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	if a := parse(0); a.Target() != 70 || a.PanicWindow() != 6*time.Second || a.InitialScale != 1 || a.Class != serving.ClassKPA {
		t.Errorf("defaults: %+v", a)
	}
	if a := parse(10); a.Total != 10 {
		t.Errorf("containerConcurrency: %+v", a)
	}
	if a := parse(10, m("target", "50")); a.Total != 10 {
		t.Errorf("a target above containerConcurrency: %+v", a)
	}
	if a := parse(10, m("metric", "ebb.dev/backlog")); a.Metric != "ebb.dev/backlog" || a.Total != settings.BacklogTarget || a.Utilization != 1 {
		t.Errorf("ebb.dev/backlog: %+v", a)
	}
	if a := parse(10, m("metric", "ebb.dev/backlog", "target", "50", "target-utilization-percentage", "80")); a.Total != 50 || a.Utilization != 0.8 {
		t.Errorf("ebb.dev/backlog with a target: %+v", a)
	}
	if a := parse(10, m("metric", "rps", "target", "50")); a.Total != 50 {
		t.Errorf("rps: %+v", a)
	}
	if a := parse(0, m("min-scale", "3"), nil, m("minScale", "0")); a.MinScale != 0 {
		t.Errorf("a later layer: %+v", a)
	}
	if a := parse(0, m("min-scale", "3", "minScale", "4")); a.MinScale != 3 {
		t.Errorf("both spellings: %+v", a)
	}
	if a := parse(0, m("window", "6s", "panic-window-percentage", "1")); a.PanicWindow() != time.Second {
		t.Errorf("panic window: %v", a.PanicWindow())
	}
}

func TestParseAutoscalingErrors(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{"class", "x.knative.dev"},
		{"metric", "cpu"},
		{"target", "0.001"},
		{"target", "Inf"},
		{"target-utilization-percentage", "0"},
		{"targetUtilizationPercentage", "101"},
		{"target-burst-capacity", "-2"},
		{"min-scale", "-1"},
		{"max-scale", "many"},
		{"max-scale", "99999999999"},
		{"initial-scale", "0"},
		{"activation-scale", "1"},
		{"scale-down-delay", "500ms"},
		{"scale-down-delay", "2h"},
		{"scale-to-zero-pod-retention-period", "-1s"},
		{"window", "5s"},
		{"panic-window-percentage", "0.5"},
		{"panic-threshold-percentage", "100"},
		{"metric-aggregation-algorithm", "cubic"},
	} {
		key := serving.AutoscalingGroup + "/" + c.key
		got, errs := settings.ParseAutoscaling(settings.Default().Autoscaler, 0, map[string]string{key: c.value})
		if len(errs) != 1 || errs[0].Key != key || errs[0].Value != c.value {
			t.Errorf("%s=%s: %v", c.key, c.value, errs)
		}
		if want, _ := settings.ParseAutoscaling(settings.Default().Autoscaler, 0); got != want {
			t.Errorf("%s=%s changed %+v", c.key, c.value, got)
		}
	}
	for name, layer := range map[string]map[string]string{
		"a backlog for hpa":    {"class": serving.ClassHPA, "metric": serving.MetricBacklog},
		"min above max":        {"min-scale": "5", "max-scale": "3"},
		"activation above max": {"activation-scale": "5", "max-scale": "3"},
		"activation below min": {"activation-scale": "2", "min-scale": "3"},
	} {
		prefixed := map[string]string{}
		for k, v := range layer {
			prefixed[serving.AutoscalingGroup+"/"+k] = v
		}
		if _, errs := settings.ParseAutoscaling(settings.Default().Autoscaler, 0, prefixed); len(errs) != 1 {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func FuzzSettings(f *testing.F) {
	for _, name := range settings.Names() {
		f.Add(name, "stable-window", "60s")
		f.Add(name, "domain-template", "{{.Name}}.{{.Domain}}")
		f.Add(name, "example.com", "selector: {a: b}")
	}
	f.Fuzz(func(t *testing.T, name, key, value string) {
		next, err := settings.Default().With(name, map[string]string{key: value})
		if (next == nil) == (err == nil) {
			t.Fatal("either settings or an error")
		}
		if err != nil {
			return
		}
		host, err := next.Host(settings.RouteName{Name: "hello", Namespace: "default"})
		if err == nil && len(host) > 253 {
			t.Fatalf("host of %d bytes", len(host))
		}
	})
}

func FuzzParseAutoscaling(f *testing.F) {
	f.Add("min-scale", "1", "maxScale", "2", int64(0))
	f.Add("window", "60s", "target", "1e300", int64(10))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, concurrency int64) {
		layer := map[string]string{serving.AutoscalingGroup + "/" + k1: v1, serving.AutoscalingGroup + "/" + k2: v2}
		a, _ := settings.ParseAutoscaling(settings.Default().Autoscaler, max(0, concurrency), layer)
		switch {
		case a.Target() < settings.TargetMin, a.Window < settings.WindowMin, a.Window > settings.WindowMax,
			a.PanicWindow() < time.Second, a.PanicWindow() > a.Window, a.MinScale < 0, a.MaxScale < 0,
			a.MaxScale > 0 && a.MinScale > a.MaxScale, a.Utilization <= 0, a.Utilization > 1:
			t.Fatalf("%v gives %+v", layer, a)
		}
	})
}

func BenchmarkParseAutoscaling(b *testing.B) {
	s := settings.Default().Autoscaler
	layer := map[string]string{serving.MinScaleAnnotation: "1", serving.AutoscalingGroup + "/maxScale": "10", serving.TargetAnnotation: "50"}
	b.ReportAllocs()
	for b.Loop() {
		settings.ParseAutoscaling(s, 0, layer, nil, nil)
	}
}
