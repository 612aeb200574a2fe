package compat

import (
	"encoding/json"
	"flag"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/config"
	"pgregory.net/rapid"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// stricter are our refusals of what the public admission takes, each on purpose.
func stricter() []*regexp.Regexp {
	return []*regexp.Regexp{
		// The API server refuses these in the Deployment, which then shows in a condition long after.
		regexp.MustCompile(`Probe\.\w+: Invalid value: -1: must be 0 or more`),
		regexp.MustCompile(`(liveness|startup)Probe\.successThreshold: Invalid value: 2: must be 1`),
		regexp.MustCompile(`ontainers\[\d+\]\.name: Invalid value: "Bad"`),
		regexp.MustCompile(`resources\.requests\[cpu\]: Invalid value`),
		regexp.MustCompile(`configMapRef\.name: Required value`),
		// Read as linear there.
		regexp.MustCompile(`metric-aggregation-algorithm\]: Invalid value: "cubic"`),
		// A probe that could never succeed.
		regexp.MustCompile(`startupProbe\.(httpGet|tcpSocket|grpc)\.port: Invalid value: .*names no port of the container`),
		// A port that the API server refuses when the pod is made.
		regexp.MustCompile(`initContainers\[\d+\]\.ports\[\d+\]\.containerPort: Invalid value: 0: must be 1\.\.65535`),
		// Numbers that are none.
		regexp.MustCompile(`Invalid value: "(NaN|Inf)": is not a number`),
	}
}

// TestWhatIsAdmittedThereIsAdmittedHere draws Services, good and bad, and holds our
// defaults and our verdict against the public ones: what the public admission takes, ours
// takes, and fills in the same. It logs what ours takes beside that.
func TestWhatIsAdmittedThereIsAdmittedHere(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "2000", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	// The same draws every time; others by -rapid.seed (`-rapid.seed=$RANDOM`).
	if seed := flag.Lookup("rapid.seed"); seed.Value.String() == seed.DefValue {
		if err := flag.Set("rapid.seed", "20"); err != nil {
			t.Fatal(err)
		}
	}
	defaults, allowed := settings.Default(), map[string]int{}
	taken := 0
	ctx := apis.WithinCreate(t.Context())
	features, err := config.NewFeaturesConfigFromMap(allFeatures())
	if err != nil {
		t.Fatal(err)
	}
	all := *config.FromContextOrDefaults(ctx)
	all.Features = features
	ctx = config.ToContext(ctx, &all)
	rapid.Check(t, func(t *rapid.T) {
		public := drawService(t)
		text, err := json.Marshal(public)
		if err != nil {
			t.Fatal(err)
		}
		ours := &v1.Service{}
		if err := json.Unmarshal(text, ours); err != nil {
			t.Fatal(err)
		}
		public.SetDefaults(ctx)
		ours.SetDefaults(defaults)
		theirs := public.Validate(ctx).Filter(apis.ErrorLevel)
		errs := ours.Validate(defaults)
		if theirs != nil {
			if len(errs) == 0 {
				allowed[strings.Join(strings.Fields(theirs.Error()), " ")]++
			}
			return
		}
		taken++
		errs = slices.DeleteFunc(errs, func(e *field.Error) bool {
			return slices.ContainsFunc(stricter(), func(r *regexp.Regexp) bool { return r.MatchString(e.Error()) })
		})
		if len(errs) > 0 {
			t.Fatalf("the public admission takes this and ours says: %v\n%s", errs.ToAggregate(), text)
		}
		if diff := cmp.Diff(plain(t, public.Spec), plain(t, ours.Spec)); diff != "" {
			t.Fatalf("defaults (-public +ours):\n%s\nof %s", diff, text)
		}
	})
	if taken == 0 {
		t.Error("the public admission took none of them")
	}
	t.Logf("taken by both: %d; beside that ours takes what the public one refuses so:", taken)
	for _, message := range slices.Sorted(maps.Keys(allowed)) {
		t.Logf("%4d %s", allowed[message], message)
	}
}

func allFeatures() map[string]string {
	on := map[string]string{"multi-container-probing": "enabled"}
	for _, key := range []string{
		"affinity", "dnsconfig", "dnspolicy", "fieldref", "hostaliases", "hostipc", "hostnetwork", "hostpid", "init-containers",
		"nodeselector", "persistent-volume-claim", "persistent-volume-write", "priorityclassname", "runtimeclassname",
		"schedulername", "securitycontext", "shareprocessnamespace", "tolerations", "topologyspreadconstraints", "volumes-csi",
		"volumes-emptydir", "volumes-ephemeral", "volumes-hostpath", "volumes-image", "volumes-mount-propagation",
	} {
		on["kubernetes.podspec-"+key] = "enabled"
	}
	return on
}

// plain is a spec as JSON, without what says nothing.
func plain(t *rapid.T, v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return tidy(out)
}
