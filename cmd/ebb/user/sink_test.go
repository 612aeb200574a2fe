package user

import (
	"strings"
	"testing"

	"ebb.dev/ebb/apis/eventing/duck"
)

func TestSinks(t *testing.T) {
	for text, want := range map[string]duck.Destination{
		"ksvc:hello":         {Ref: &duck.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "hello"}},
		"ksvc:hello/a/b?c=d": {Ref: &duck.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "hello"}, URI: "/a/b?c=d"},
		"svc:plain":          {Ref: &duck.KReference{APIVersion: "v1", Kind: "Service", Name: "plain"}},
		"broker:default":     {Ref: &duck.KReference{APIVersion: "eventing.knative.dev/v1", Kind: "Broker", Name: "default"}},
		"sequence:s":         {Ref: &duck.KReference{APIVersion: "flows.knative.dev/v1", Kind: "Sequence", Name: "s"}},
		"https://x.test/y":   {URI: "https://x.test/y"},
	} {
		got, err := parseSink(text)
		switch {
		case err != nil:
			t.Errorf("%s: %v", text, err)
		case got.URI != want.URI || (got.Ref == nil) != (want.Ref == nil) || got.Ref != nil && *got.Ref != *want.Ref:
			t.Errorf("%s is %+v %+v", text, got, got.Ref)
		case sinkText(got) != text:
			t.Errorf("%s is written %s", text, sinkText(got))
		}
	}
	for text, says := range map[string]string{
		"hello": "a Service is ksvc:hello", "ksvc:": "names nothing", "pod:x": "use ksvc, broker, channel", "http://": "not a URL", "": "neither",
	} {
		if _, err := parseSink(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}
