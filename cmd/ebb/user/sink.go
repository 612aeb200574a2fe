package user

import (
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// sinkKinds are the words before the colon.
var sinkKinds = []struct {
	word             string
	apiVersion, kind string
}{
	{"ksvc", v1.GroupVersion.String(), v1.KindService},
	{"broker", eventingv1.GroupVersion.String(), eventingv1.KindBroker},
	{"channel", messagingv1.GroupVersion.String(), messagingv1.KindChannel},
	{"sequence", flowsv1.GroupVersion.String(), flowsv1.KindSequence},
	{"parallel", flowsv1.GroupVersion.String(), flowsv1.KindParallel},
	{"svc", corev1.SchemeGroupVersion.String(), "Service"},
}

// sinkUsage is how a sink is written.
const sinkUsage = "`SINK`: KIND:NAME, with a path behind it if need be (ksvc:hello, ksvc:hello/path, broker:default, channel:C, sequence:S, parallel:P, svc:CORE-SERVICE), or a URL"

// parseSink reads KIND:NAME, KIND:NAME/PATH or a URL.
func parseSink(text string) (*duck.Destination, error) {
	if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		if u, err := url.Parse(text); err != nil || u.Host == "" {
			return nil, fmt.Errorf("%q is not a URL like http://HOST/PATH", text)
		}
		return &duck.Destination{URI: text}, nil
	}
	word, rest, ok := strings.Cut(text, ":")
	if !ok {
		return nil, fmt.Errorf("%q is neither KIND:NAME nor a URL: a Service is ksvc:%s", text, text)
	}
	name, path, slash := strings.Cut(rest, "/")
	if name == "" {
		return nil, fmt.Errorf("%q names nothing: it is %s:NAME", text, word)
	}
	var words []string
	for _, k := range sinkKinds {
		if k.word == word {
			d := &duck.Destination{Ref: &duck.KReference{APIVersion: k.apiVersion, Kind: k.kind, Name: name}}
			if slash {
				d.URI = "/" + path
			}
			return d, nil
		}
		words = append(words, k.word)
	}
	return nil, fmt.Errorf("%q: %q is not a kind of sink: use %s or a URL", text, word, strings.Join(words, ", "))
}

// sinkText is a destination as parseSink reads it, where it can.
func sinkText(d *duck.Destination) string {
	if d.Empty() {
		return ""
	}
	if d.Ref == nil {
		return d.URI
	}
	for _, k := range sinkKinds {
		if k.kind == d.Ref.Kind && k.apiVersion == d.Ref.APIVersion {
			return k.word + ":" + d.Ref.Name + d.URI
		}
	}
	return d.Ref.Kind + ":" + d.Ref.Name + d.URI
}
