package admission_test

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"ebb.dev/ebb/apis/settings"
)

func eventing(kind, annotations, spec string) string {
	version := map[string]string{
		"Broker": "eventing.knative.dev/v1", "Trigger": "eventing.knative.dev/v1", "EventType": "eventing.knative.dev/v1beta2",
		"Channel": "messaging.knative.dev/v1", "Subscription": "messaging.knative.dev/v1",
		"Sequence": "flows.knative.dev/v1", "Parallel": "flows.knative.dev/v1",
	}[kind]
	if version == "" {
		version = "sources.knative.dev/v1"
	}
	return "{apiVersion: " + version + ", kind: " + kind + ", metadata: {name: one, namespace: default, annotations: {" + annotations + "}}, spec: {" + spec + "}}"
}

const (
	toHello = "ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: hello}"
	sink    = "sink: {" + toHello + "}"
)

// TestEventingIsAdmitted: manifests as the public documentation has them are taken, get their
// defaults, and are taken again as they are stored.
func TestEventingIsAdmitted(t *testing.T) {
	store := settings.NewStore()
	for _, c := range []struct{ kind, annotations, spec, stored, warning string }{
		{kind: "Broker", spec: "delivery: {retry: 5, backoffPolicy: linear, backoffDelay: PT2S, deadLetterSink: {" + toHello + "}}", stored: `"namespace":"default"`},
		{kind: "Broker", annotations: "eventing.knative.dev/broker.class: MTChannelBasedBroker", spec: "config: {apiVersion: v1, kind: ConfigMap, name: imc-channel, namespace: knative-eventing}",
			warning: "spec.config has no effect"},
		{kind: "Trigger", spec: "subscriber: {" + toHello + "}", stored: `"broker":"default"`},
		{kind: "Trigger", annotations: `ebb.dev/delivery-order: ordered, ebb.dev/partition-key: customer, ebb.dev/parallelism: "7"`,
			spec: "broker: main, filter: {attributes: {type: a, subject: ''}}, subscriber: {" + toHello + ", uri: /path}", stored: `"uri":"/path"`},
		{kind: "Trigger", spec: "broker: main, filters: [{any: [{exact: {type: a}}, {not: {prefix: {source: /b}}}]}, {cesql: \"type LIKE 'a%'\"}], subscriber: {uri: 'http://example.com/'}", stored: `"cesql":`},
		{kind: "Trigger", spec: "filter: {attributes: {type: a}}, filters: [{exact: {type: b}}], subscriber: {uri: 'http://example.com/'}", warning: "spec.filter has no effect"},
		{kind: "EventType", spec: "type: a.b, source: /s, broker: main", stored: `"reference":{"kind":"Broker","namespace":"default","name":"main","apiVersion":"eventing.knative.dev/v1"}`},
		{kind: "Channel", spec: "channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel}"},
		{kind: "Subscription", spec: "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: orders}, reply: {" + toHello + "}", stored: `"channel":{"kind":"Channel","namespace":"default","name":"orders"`},
		{kind: "Sequence", spec: "channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, spec: {a: 1}}, steps: [{" + toHello + ", delivery: {retry: 1}}, {uri: 'http://a/'}], reply: {uri: 'http://b/'}", stored: `"spec":{"a":1}`},
		{kind: "Parallel", spec: "branches: [{filter: {uri: 'http://f/'}, subscriber: {" + toHello + "}}, {subscriber: {uri: 'http://a/'}, reply: {uri: 'http://b/'}}]"},
		{kind: "PingSource", spec: "data: '{\"a\": 1}', contentType: application/json, " + sink, stored: `"schedule":"* * * * *"`},
		{kind: "PingSource", spec: "schedule: '*/30 * * * * *', timezone: Europe/Berlin, dataBase64: AAE=, ceOverrides: {extensions: {tenant: a}}, " + sink},
		{kind: "ApiServerSource", spec: "resources: [{apiVersion: v1, kind: Event}], " + sink, stored: `"mode":"Reference"`},
		{kind: "ContainerSource", spec: "template: {spec: {containers: [{image: a, env: [{name: B, value: c}]}]}}, " + sink, stored: `"name":"source"`},
		{kind: "SinkBinding", spec: "subject: {apiVersion: batch/v1, kind: Job, selector: {matchLabels: {app: a}}}, " + sink, stored: `"namespace":"default"`},
	} {
		stored, warning := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, eventing(c.kind, c.annotations, c.spec)), nil))
		if !strings.Contains(string(stored), c.stored) || stored == nil || !strings.Contains(warning, c.warning) || (warning == "") != (c.warning == "") {
			t.Errorf("%s {%s}: stored as %s, said %q; want in it %s and %q", c.kind, c.spec, stored, warning, c.stored, c.warning)
			continue
		}
		again, _ := admit(t, store, request(admissionv1.Update, "bob", stored, stored))
		if pretty(t, again) != pretty(t, stored) {
			t.Errorf("%s {%s}: an update that changes nothing stores %s", c.kind, c.spec, again)
		}
	}
}

// TestEventingIsRefused: the refusal names the field.
func TestEventingIsRefused(t *testing.T) {
	store := settings.NewStore()
	for _, c := range []struct{ kind, annotations, spec, says string }{
		{"Broker", "", "delivery: {backoffDelay: 2s}", "spec.delivery.backoffDelay: Invalid value"},
		{"Broker", "", "delivery: {timeout: PT0S}", "spec.delivery.timeout"},
		{"Broker", "", "delivery: {retry: -1}", "spec.delivery.retry"},
		{"Broker", "", "delivery: {backoffPolicy: random}", `spec.delivery.backoffPolicy: Unsupported value: "random"`},
		{"Broker", "", "delivery: {deadLetterSink: {}}", "spec.delivery.deadLetterSink: Required"},
		{"Broker", "", "delivery: {retrys: 1}", `did you mean "retry"?`},
		{"Trigger", "", "broker: main", "spec.subscriber: Required"},
		{"Trigger", "", "subscriber: {uri: relative}", "spec.subscriber.uri: Invalid"},
		{"Trigger", "", "subscriber: {" + toHello + ", uri: 'http://a/'}", "spec.subscriber.uri: Invalid"},
		{"Trigger", "", "subscriber: {ref: {kind: Service, name: a}}", "spec.subscriber.ref.apiVersion: Required"},
		{"Trigger", "", "filter: {attributes: {Type: a}}, subscriber: {uri: 'http://a/'}", "spec.filter.attributes[Type]"},
		{"Trigger", "", "filters: [{exact: {type: a}, prefix: {type: b}}], subscriber: {uri: 'http://a/'}", "spec.filters[0]: Invalid value: has more than one dialect"},
		{"Trigger", "", "filters: [{any: []}], subscriber: {uri: 'http://a/'}", "spec.filters[0].any: Required"},
		{"Trigger", "", "filters: [{all: [{exact: {type: ''}}]}], subscriber: {uri: 'http://a/'}", "spec.filters[0].all[0].exact[type]: Required"},
		{"Trigger", "", "filters: [" + strings.Repeat("{not: ", 12) + "{exact: {type: a}}" + strings.Repeat("}", 12) + "], subscriber: {uri: 'http://a/'}", "nested more than 10 deep"},
		{"Trigger", "", "filters: [" + strings.Repeat("{exact: {type: a}}, ", 300) + "], subscriber: {uri: 'http://a/'}", "spec.filters[256]: Too many"},
		{"Trigger", "ebb.dev/parallelism: '0'", "subscriber: {uri: 'http://a/'}", "metadata.annotations[ebb.dev/parallelism]"},
		{"Trigger", "ebb.dev/delivery-order: sorted", "subscriber: {uri: 'http://a/'}", "metadata.annotations[ebb.dev/delivery-order]"},
		{"Trigger", "knative.dev/dependency: nothing", "subscriber: {uri: 'http://a/'}", "metadata.annotations[knative.dev/dependency]"},
		{"EventType", "", "source: /s", "spec.type: Required"},
		{"Channel", "", "subscribers: [{uid: a}]", "spec.subscribers: Forbidden"},
		{"Channel", "", "channelTemplate: {kind: InMemoryChannel}", "spec.channelTemplate.apiVersion"},
		{"Subscription", "", "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: a}", "spec.subscriber: Required"},
		{"Subscription", "", "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: a, namespace: other}, reply: {uri: 'http://a/'}", "spec.channel.namespace"},
		{"Sequence", "", "steps: []", "spec.steps: Required"},
		{"Sequence", "", "steps: [{uri: 'http://a/'}, {}]", "spec.steps[1]: Required"},
		{"Parallel", "", "branches: [{filter: {uri: 'http://a/'}}]", "spec.branches[0].subscriber: Required"},
		{"PingSource", "", "schedule: 'every minute', " + sink, "spec.schedule: Invalid"},
		{"PingSource", "", "timezone: Nowhere, " + sink, "spec.timezone: Invalid"},
		{"PingSource", "", "data: a, dataBase64: AA==, " + sink, "spec.dataBase64: Forbidden"},
		{"PingSource", "", "data: '{', contentType: application/json, " + sink, "spec.data: Invalid"},
		{"PingSource", "", "schedule: '* * * * *'", "spec.sink: Required"},
		{"ApiServerSource", "", sink, "spec.resources: Required"},
		{"ApiServerSource", "", "mode: All, resources: [{apiVersion: v1, kind: Pod}], " + sink, "spec.mode: Unsupported"},
		{"ApiServerSource", "", "resources: [{apiVersion: v1, kind: Pod, selector: {matchExpressions: [{key: a, operator: Maybe}]}}], " + sink, "spec.resources[0].selector"},
		{"ContainerSource", "", "template: {}, " + sink, "spec.template.spec.containers: Required"},
		{"ContainerSource", "", "template: {spec: {containers: [{name: a}]}}, " + sink, "spec.template.spec.containers[0].image"},
		{"SinkBinding", "", "subject: {apiVersion: apps/v1, kind: Deployment}, " + sink, "spec.subject.name: Required"},
		{"SinkBinding", "", "subject: {apiVersion: apps/v1, kind: Deployment, name: a, namespace: other}, " + sink, "spec.subject.namespace"},
	} {
		stored, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, eventing(c.kind, c.annotations, c.spec)), nil))
		if stored != nil || !strings.Contains(refusal, c.says) {
			t.Errorf("%s {%s} {%s}: %q, want a refusal that says %q", c.kind, c.annotations, c.spec, refusal, c.says)
		}
	}
}

// TestEventingThatMayNotChange: what would lose the place in a topic is refused.
func TestEventingThatMayNotChange(t *testing.T) {
	store := settings.NewStore()
	for _, c := range []struct{ kind, old, next, says string }{
		{"Trigger", "broker: main, subscriber: {uri: 'http://a/'}", "broker: other, subscriber: {uri: 'http://a/'}", `spec.broker: Forbidden: cannot be changed (it is "main")`},
		{"Trigger", "broker: main, subscriber: {uri: 'http://a/'}", "broker: main, filters: [{exact: {type: a}}], subscriber: {uri: 'http://b/'}", ""},
		{"Subscription", "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: a}, reply: {uri: 'http://a/'}", "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: b}, reply: {uri: 'http://a/'}", "spec.channel: Forbidden"},
		{"Subscription", "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: a}, reply: {uri: 'http://a/'}", "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: a}, subscriber: {uri: 'http://a/'}", ""},
		{"EventType", "type: a, source: /s, broker: main", "type: b, source: /s, broker: main", "spec: Forbidden"},
		{"EventType", "type: a, source: /s, broker: main", "type: a, source: /s, broker: main, description: more", ""},
	} {
		old, refusal := admit(t, store, request(admissionv1.Create, "ann", asJSON(t, eventing(c.kind, "", c.old)), nil))
		if refusal != "" {
			t.Fatal(refusal)
		}
		_, refusal = admit(t, store, request(admissionv1.Update, "ann", asJSON(t, eventing(c.kind, "", c.next)), old))
		if !strings.Contains(refusal, c.says) || (refusal == "") != (c.says == "") {
			t.Errorf("%s {%s} to {%s}: %q, want %q", c.kind, c.old, c.next, refusal, c.says)
		}
	}
}
