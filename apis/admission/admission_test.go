package admission_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/settings"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const hello = `
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello, namespace: default}
spec: {template: {spec: {containers: [{image: "example.com/hello:v1"}]}}}
`

func asJSON(t testing.TB, text string) []byte {
	t.Helper()
	out, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func request(op admissionv1.Operation, user string, next, old []byte) webhook.Request {
	var meta struct {
		Kind     string `json:"kind"`
		Version  string `json:"apiVersion"`
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(next, &meta)
	group, version, _ := strings.Cut(meta.Version, "/")
	return webhook.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "1", Operation: op, Name: meta.Metadata.Name, Namespace: "default",
		Kind:     metav1.GroupVersionKind{Group: group, Version: version, Kind: meta.Kind},
		UserInfo: authenticationv1.UserInfo{Username: user},
		Object:   runtime.RawExtension{Raw: next}, OldObject: runtime.RawExtension{Raw: old},
	}}
}

// admit sends a request through both webhooks as the API server does; it returns what
// is stored, or the refusal.
func admit(t testing.TB, store *settings.Store, req webhook.Request) (stored []byte, refusal string) {
	t.Helper()
	first := admission.Mutator(store).Handle(t.Context(), req)
	if !first.Allowed {
		return nil, first.Result.Message
	}
	stored = req.Object.Raw
	if len(first.Patches) > 0 {
		text, err := json.Marshal(first.Patches)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(text)
		if err != nil {
			t.Fatal(err)
		}
		if stored, err = patch.Apply(stored); err != nil {
			t.Fatal(err)
		}
	}
	req.Object.Raw = stored
	second := admission.Validator(store, nil).Handle(t.Context(), req)
	if !second.Allowed {
		return nil, second.Result.Message
	}
	return stored, strings.Join(second.Warnings, "\n")
}

func TestCreateAndUpdate(t *testing.T) {
	store := settings.NewStore()
	stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, hello), nil))
	if refusal != "" {
		t.Fatal(refusal)
	}
	golden(t, "testdata/hello.stored.yaml", pretty(t, stored))

	again, refusal := admit(t, store, request(admissionv1.Update, "bob", stored, stored))
	if refusal != "" || pretty(t, again) != pretty(t, stored) {
		t.Errorf("an update that changes nothing: %s\n%s", refusal, pretty(t, again))
	}
	changed := []byte(strings.Replace(string(stored), "hello:v1", "hello:v2", 1))
	next, refusal := admit(t, store, request(admissionv1.Update, "bob", changed, stored))
	if refusal != "" {
		t.Fatal(refusal)
	}
	if text := string(next); !strings.Contains(text, `"serving.knative.dev/creator":"ann"`) || !strings.Contains(text, `"serving.knative.dev/lastModifier":"bob"`) {
		t.Errorf("stamps: %s", text)
	}
	// A manifest without the stamps keeps them, one with others is refused.
	bare, refusal := admit(t, store, request(admissionv1.Update, "bob", asJSON(t, hello), stored))
	if refusal != "" || !strings.Contains(string(bare), `"serving.knative.dev/creator":"ann"`) {
		t.Errorf("a replaced manifest: %s %s", refusal, bare)
	}
	forged := []byte(strings.Replace(string(stored), `creator":"ann"`, `creator":"eve"`, 1))
	if _, refusal = admit(t, store, request(admissionv1.Update, "eve", forged, stored)); !strings.Contains(refusal, "serving.knative.dev/creator") {
		t.Errorf("a forged creator: %q", refusal)
	}
}

// TestStricterSettings: what is stored stays changeable when the settings got stricter or have
// more defaults, as long as its template is left alone.
func TestStricterSettings(t *testing.T) {
	store := settings.NewStore()
	text := strings.Replace(hello, "template: {spec: {", "template: {spec: {timeoutSeconds: 500, ", 1)
	stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, text), nil))
	if refusal != "" {
		t.Fatal(refusal)
	}
	if err := store.Update(settings.ConfigDefaults, map[string]string{"max-revision-timeout-seconds": "400", "revision-cpu-request": "100m"}); err != nil {
		t.Fatal(err)
	}
	labelled := []byte(strings.Replace(string(stored), `"name":"hello"`, `"labels":{"a":"b"},"name":"hello"`, 1))
	next, refusal := admit(t, store, request(admissionv1.Update, "bob", labelled, stored))
	if refusal != "" || strings.Contains(string(next), "100m") {
		t.Errorf("a label: %q %s", refusal, next)
	}
	traffic := func(percent string) []byte {
		return []byte(strings.Replace(string(stored), `"percent":100`, `"tag":"pinned","percent":`+percent, 1))
	}
	next, refusal = admit(t, store, request(admissionv1.Update, "bob", traffic("100"), stored))
	if refusal != "" || strings.Contains(string(next), "100m") || !strings.Contains(string(next), "pinned") || !strings.Contains(string(next), `lastModifier":"bob"`) {
		t.Errorf("other traffic: %q %s", refusal, next)
	}
	if _, refusal := admit(t, store, request(admissionv1.Update, "bob", traffic("90"), stored)); !strings.Contains(refusal, "spec.traffic") || strings.Contains(refusal, "spec.template") {
		t.Errorf("bad traffic: %q", refusal)
	}
	changed := []byte(strings.Replace(string(stored), "hello:v1", "hello:v2", 1))
	if _, refusal := admit(t, store, request(admissionv1.Update, "bob", changed, stored)); !strings.Contains(refusal, "spec.template.spec.timeoutSeconds") {
		t.Errorf("a new image: %q", refusal)
	}
}

func TestRevisionIsImmutable(t *testing.T) {
	store := settings.NewStore()
	revision := `{apiVersion: serving.knative.dev/v1, kind: Revision, metadata: {name: hello-00001}, spec: {containers: [{image: a}]}}`
	stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, revision), nil))
	if refusal != "" {
		t.Fatal(refusal)
	}
	changed := []byte(strings.Replace(string(stored), `"image":"a"`, `"image":"b"`, 1))
	if _, refusal = admit(t, store, request(admissionv1.Update, "ann", changed, stored)); !strings.Contains(refusal, "spec.containers[0].image") {
		t.Errorf("refusal %q", refusal)
	}
	bad := []byte(strings.Replace(string(stored), `"name":"hello-00001"`, `"annotations":{"autoscaling.knative.dev/min-scale":"x"},"name":"hello-00001"`, 1))
	if _, refusal = admit(t, store, request(admissionv1.Update, "ann", bad, stored)); !strings.Contains(refusal, "metadata.annotations[autoscaling.knative.dev/min-scale]") {
		t.Errorf("refusal %q", refusal)
	}
}

// TestNameChange: a template that names its Revision may not change under that name.
func TestNameChange(t *testing.T) {
	store := settings.NewStore()
	for _, kind := range []string{"Service", "Configuration"} {
		text := `{apiVersion: serving.knative.dev/v1, kind: ` + kind + `, metadata: {name: hello}, spec: {template: {metadata: {name: hello-one}, spec: {containers: [{image: a}]}}}}`
		stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, text), nil))
		if refusal != "" {
			t.Fatal(refusal)
		}
		if _, refusal = admit(t, store, request(admissionv1.Update, "ann", asJSON(t, text), stored)); refusal != "" {
			t.Errorf("%s: the same again: %s", kind, refusal)
		}
		for what, replace := range map[string][2]string{
			"spec.template.spec.containers[0].image": {"image: a", "image: b"},
			"spec.template.metadata.labels":          {"name: hello-one", "name: hello-one, labels: {a: b}"},
		} {
			next := asJSON(t, strings.Replace(text, replace[0], replace[1], 1))
			if _, refusal = admit(t, store, request(admissionv1.Update, "ann", next, stored)); !strings.Contains(refusal, "spec.template.metadata.name") || !strings.Contains(refusal, what+" has changed") {
				t.Errorf("%s: refusal %q should name %s", kind, refusal, what)
			}
			renamed := []byte(strings.Replace(string(next), "hello-one", "hello-two", 1))
			if _, refusal = admit(t, store, request(admissionv1.Update, "ann", renamed, stored)); refusal != "" {
				t.Errorf("%s: with another name: %s", kind, refusal)
			}
		}
	}
}

func TestNothingToDecide(t *testing.T) {
	store := settings.NewStore()
	status := request(admissionv1.Update, "ann", []byte(`{"kind":"Service"}`), []byte(`{}`))
	status.SubResource = "status"
	if _, refusal := admit(t, store, status); refusal != "" {
		t.Errorf("status: %s", refusal)
	}
	deleted := request(admissionv1.Update, "ann", []byte(`{"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"deletionTimestamp":"2026-01-02T03:04:05Z"}}`), []byte(`{}`))
	if _, refusal := admit(t, store, deleted); refusal != "" {
		t.Errorf("deleted: %s", refusal)
	}
}

// TestRefusals admits every file of testdata/bad and compares the refusals with
// refusals.golden.
// TestRefusals: each bad manifest with the whole of what is said about it. The end-to-end
// tests send the same files to a real API server.
func TestRefusals(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d manifests, err %v", len(files), err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		req := request(admissionv1.Create, "ann", asJSON(t, string(text)), nil)
		var refusal string
		if req.Kind.Kind == "ConfigMap" {
			refusal = admission.SettingsValidator().Handle(t.Context(), req).Result.Message
		} else {
			_, refusal = admit(t, settings.NewStore(), req)
		}
		if refusal == "" {
			t.Errorf("%s was admitted", file)
		}
		all.WriteString("== " + filepath.Base(file) + "\n" + refusal + "\n")
	}
	golden(t, "testdata/refusals.golden", all.String())
}

func TestWarnings(t *testing.T) {
	text := strings.Replace(hello, "template: {", "template: {metadata: {annotations: {autoscaling.knative.dev/mim-scale: \"1\"}}, ", 1)
	if _, warning := admit(t, settings.NewStore(), request(admissionv1.Create, "ann", asJSON(t, text), nil)); !strings.Contains(warning, `did you mean "autoscaling.knative.dev/min-scale"`) {
		t.Errorf("warning %q", warning)
	}
}

func TestConfigurations(t *testing.T) {
	mutating, validating := admission.Configurations(admission.Target{URL: "https://127.0.0.1:9443", CABundle: []byte("pem")})
	if got := *mutating.Webhooks[0].ClientConfig.URL; got != "https://127.0.0.1:9443"+admission.MutatePath {
		t.Error(got)
	}
	if got := *validating.Webhooks[0].ClientConfig.URL; got != "https://127.0.0.1:9443"+admission.ValidatePath {
		t.Error(got)
	}
	_, validating = admission.Configurations(admission.Target{Namespace: "ebb-system", Service: "ebb", Port: 443})
	if s := validating.Webhooks[0].ClientConfig.Service; s == nil || *s.Path != admission.ValidatePath || *s.Port != 443 {
		t.Errorf("%+v", s)
	}
	if with := mutating.Webhooks[0].MatchConditions; with != nil {
		t.Errorf("without a controller to leave out: %+v", with)
	}
	mutating, validating = admission.Configurations(admission.Target{URL: "https://127.0.0.1:9443", Controller: "system:serviceaccount:ebb-system:controller"})
	const others = `request.userInfo.username != "system:serviceaccount:ebb-system:controller"`
	for _, with := range [][]admissionregistration.MatchCondition{mutating.Webhooks[0].MatchConditions, validating.Webhooks[0].MatchConditions} {
		if len(with) != 1 || with[0].Expression != others {
			t.Errorf("%+v", with)
		}
	}
	if with := validating.Webhooks[1].MatchConditions; with != nil {
		t.Errorf("ConfigMaps are asked about, whoever writes them: %+v", with)
	}
}

func pretty(t *testing.T, text []byte) string {
	t.Helper()
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func BenchmarkDecision(b *testing.B) {
	store := settings.NewStore()
	req := request(admissionv1.Create, "ann", asJSON(b, hello), nil)
	stored, _ := admit(b, store, req)
	mutator, validator := admission.Mutator(store), admission.Validator(store, nil)
	b.Run("mutate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mutator.Handle(b.Context(), req)
		}
	})
	valid := request(admissionv1.Create, "ann", stored, nil)
	b.Run("validate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			validator.Handle(b.Context(), valid)
		}
	})
}

// TestDomainMapping: the name is the host, and each refusal names its field.
func TestDomainMapping(t *testing.T) {
	store := settings.NewStore()
	if err := store.Update(settings.ConfigDomain, map[string]string{"apps.example.com": "", "corp.example.com": "selector: {who: corp}"}); err != nil {
		t.Fatal(err)
	}
	const form = `{apiVersion: serving.knative.dev/v1beta1, kind: DomainMapping, metadata: {name: NAME}, spec: SPEC}`
	mapping := func(name, spec string) []byte {
		return asJSON(t, strings.NewReplacer("NAME", name, "SPEC", spec).Replace(form))
	}
	const good = `{ref: {kind: Service, name: hello, apiVersion: serving.knative.dev/v1}}`
	stored, refusal := admit(t, store, request(admissionv1.Create, "ann", mapping("www.example.com", good), nil))
	if refusal != "" || !strings.Contains(string(stored), `"namespace":"default"`) || !strings.Contains(string(stored), `"serving.knative.dev/creator":"ann"`) {
		t.Errorf("%q %s", refusal, stored)
	}
	// Another target is no other mapping.
	other := []byte(strings.Replace(string(stored), `"name":"hello"`, `"name":"other"`, 1))
	if next, refusal := admit(t, store, request(admissionv1.Update, "bob", other, stored)); refusal != "" || !strings.Contains(string(next), `lastModifier":"bob"`) {
		t.Errorf("another target: %q %s", refusal, next)
	}
	for _, name := range []string{"apps.example.com", "shop.apps.example.com", "a.b.c.apps.example.com", "a.b.corp.example.net"} {
		if _, refusal := admit(t, store, request(admissionv1.Create, "ann", mapping(name, good), nil)); refusal != "" {
			t.Errorf("%s: %s", name, refusal)
		}
	}
	for _, bad := range []struct{ name, spec, want string }{
		{"hello", good, "metadata.name: Invalid value: \"hello\": must be a domain name of at least two labels"},
		{"Www.Example.com", good, "metadata.name"},
		{strings.Repeat("a", 64) + ".example.com", good, "metadata.name"},
		{"'*.example.com'", good, "metadata.name"},
		{"hello.default.svc.cluster.local", good, "names under cluster.local belong to the cluster"},
		{"a.cluster.local", good, "names under cluster.local belong to the cluster"},
		{"victim.other.apps.example.com", good, `gives to Routes of namespace "other"`},
		{"victim.other.corp.example.com", good, `gives to Routes of namespace "other"`},
		{"a.example.com", `{}`, "spec.ref.kind: Required value"},
		{"a.example.com", `{ref: {kind: Service, apiVersion: v1}}`, "spec.ref.name: Required value"},
		{"a.example.com", `{ref: {kind: Service, name: hello}}`, "spec.ref.apiVersion: Required value"},
		{"a.example.com", `{ref: {kind: Service, name: hello, apiVersion: v1, namespace: other}}`, `spec.ref.namespace: Invalid value: "other": must be the namespace of the DomainMapping, "default"`},
		{"a.example.com", `{ref: {kind: Service, name: hello, apiVersion: v1}, tls: {}}`, "spec.tls.secretName: Required value"},
		{"a.example.com", `{ref: {kind: Service, name: hello, apiVersion: v1}, tls: {secretName: A_B}}`, "spec.tls.secretName: Invalid value"},
		{"a.example.com", `{ref: {kind: Service, name: hello, apiVersoin: v1}}`, `spec.ref.apiVersoin: Forbidden: unknown field; did you mean "apiVersion"?`},
	} {
		if _, refusal := admit(t, store, request(admissionv1.Create, "ann", mapping(bad.name, bad.spec), nil)); !strings.Contains(refusal, bad.want) {
			t.Errorf("%s %s: %q, want %q", bad.name, bad.spec, refusal, bad.want)
		}
	}
	annotated := strings.Replace(string(mapping("a.example.com", good)), `"name":"a.example.com"`, `"name":"a.example.com","annotations":{"networking.knative.dev/httpOption":"Sometimes"}`, 1)
	if _, refusal := admit(t, store, request(admissionv1.Create, "ann", []byte(annotated), nil)); !strings.Contains(refusal, `metadata.annotations[networking.knative.dev/httpOption]: Unsupported value: "Sometimes"`) {
		t.Errorf("an annotation: %q", refusal)
	}
	generated := strings.Replace(string(mapping("x", good)), `"name":"x"`, `"generateName":"x-"`, 1)
	if _, refusal := admit(t, store, request(admissionv1.Create, "ann", []byte(generated), nil)); !strings.Contains(refusal, "metadata.generateName: Forbidden") {
		t.Errorf("a generated name: %q", refusal)
	}
}

func TestClusterDomainClaim(t *testing.T) {
	store := settings.NewStore()
	for text, want := range map[string]string{
		`{metadata: {name: www.example.com}, spec: {namespace: shop}}`: "",
		`{metadata: {name: www.example.com}}`:                          "spec.namespace: Required value",
		`{metadata: {name: www.example.com}, spec: {namespace: A B}}`:  "spec.namespace: Invalid value",
		`{metadata: {name: www}, spec: {namespace: shop}}`:             "metadata.name: Invalid value",
	} {
		claim := `{apiVersion: networking.internal.knative.dev/v1alpha1, kind: ClusterDomainClaim, ` + text[1:]
		stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, claim), nil))
		if (want == "") != (refusal == "") || !strings.Contains(refusal, want) || strings.Contains(string(stored), "creator") {
			t.Errorf("%s: %q, want %q; %s", text, refusal, want, stored)
		}
	}
}
