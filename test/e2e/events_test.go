package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// beginEvents is begin of a test that sends events.
func beginEvents(t *testing.T) *platform.Namespace {
	t.Helper()
	n := begin(t)
	n.Embedded(t, "events are sent by the test, and to it, on the machine of the platform")
	return n
}

const broker = `{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: %s}}`

// withBroker makes a Broker and returns where it takes events.
func withBroker(n *platform.Namespace) string {
	n.Helper()
	n.MakeReady(fmt.Sprintf(broker, "default"))
	return n.EventsURL(eventingv1.GroupVersion.WithKind("Broker"), "default")
}

func event(id, kind string, more ...string) platform.Event {
	e := platform.Event{Attributes: map[string]string{"id": id, "type": kind, "source": "/test"}, Data: "data of " + id}
	for i := 0; i+1 < len(more); i += 2 {
		e.Attributes[more[i]] = more[i+1]
	}
	return e
}

// sample is the value of a series of a page of metrics, and whether it is there.
func sample(text, series string) (value string, there bool) {
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return "", false
	}
	return found[1], true
}

// TestEventsWakeOnce: many events for a Service at zero are one request for a pod until it has answered, and all arrive.
func TestEventsWakeOnce(t *testing.T) {
	n := beginEvents(t)
	url := withBroker(n)
	var gate sync.Mutex
	open := false
	sink := platform.NewSink(t, func(d platform.Delivery, w http.ResponseWriter) bool {
		gate.Lock()
		defer gate.Unlock()
		if d.Path == "/gate" && !open {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return d.Path == "/gate"
	})
	n.DeployAtZero("worker", func(s *v1.Service) {
		limit := int64(2)
		s.Spec.Template.Spec.ContainerConcurrency = &limit // each request more than two would be one more pod
		s.Spec.Template.Annotations[serving.MaxScaleAnnotation] = "8"
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "START_WHEN", Value: sink.URL + "/gate"}}
	})
	n.MakeReady(fmt.Sprintf(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: work}
spec:
  broker: default
  filter: {attributes: {type: work}}
  subscriber:
    ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: worker}
    uri: /reply?type=done
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: done}
spec:
  broker: default
  filter: {attributes: {type: done}}
  subscriber: {uri: %s/done}
`, sink.URL))
	const events = 60
	var want []string
	for i := range events {
		id := fmt.Sprintf("e%03d", i)
		n.Send(url, event(id, "work"))
		want = append(want, id+"/done")
	}
	pods := n.AwaitPods("worker", func(now []*corev1.Pod) error {
		if len(now) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	// All of them are stored and a pod starts: one delivery is in flight, and one pod is wished for.
	labels := `{kind="Trigger",name="work",namespace="` + n.In + `"}`
	for series, most := range map[string]string{"in_flight": "1", "window": "1"} {
		if value, there := sample(page(t, "http://"+n.Running().Eventing+"/metrics"), "ebb_dispatcher_"+series+labels); there && value != most && value != "0" {
			t.Errorf("with the service at zero %s of the dispatcher is %s, want %s", series, value, most)
		}
	}
	desired := `ebb_autoscaler_desired_pods{namespace="` + n.In + `",revision="worker-00001"}`
	if value, _ := sample(page(t, "http://"+n.Running().Controller+"/metrics"), desired); value != "1" {
		t.Errorf("%s is %q, want 1 for %d events", desired, value, events)
	}
	if len(pods) != 1 {
		t.Errorf("%d pods are started for the first event", len(pods))
	}
	gate.Lock()
	open = true
	gate.Unlock()
	sink.Await(t, "/done", want...)
}

// TestEventsAreFilteredAndReplied: each dialect of filters; a reply goes into the Broker and on to another Trigger.
func TestEventsAreFilteredAndReplied(t *testing.T) {
	n := beginEvents(t)
	url := withBroker(n)
	sink := platform.NewSink(t, nil)
	n.DeployAtZero("orders", nil)
	// Ordered, so that the last event comes last.
	trigger := func(name, filter string) string {
		return fmt.Sprintf(`---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: %s, annotations: {ebb.dev/delivery-order: ordered}}
spec: {broker: default, %s, subscriber: {uri: "%s/%s"}}
`, name, filter, sink.URL, name)
	}
	n.MakeReady(trigger("everything", `filter: {}`) +
		trigger("attributes", `filter: {attributes: {type: order, region: ""}}`) +
		trigger("prefix", `filters: [{any: [{prefix: {source: /shop/}}, {exact: {type: end}}]}]`) +
		trigger("suffix", `filters: [{any: [{suffix: {source: /eu}}, {exact: {type: end}}]}]`) +
		trigger("not", `filters: [{not: {exact: {type: order}}}]`) +
		trigger("all", `filters: [{any: [{all: [{exact: {type: order}}, {suffix: {source: /us}}]}, {exact: {type: end}}]}]`) +
		trigger("cesql", `filters: [{cesql: "type = 'end' OR (region IN ('eu', 'uk') AND source LIKE '/shop/%')"}]`) + `---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: orders}
spec:
  broker: default
  filter: {attributes: {type: order}}
  subscriber:
    ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: orders}
    uri: /reply?type=order.done
` + trigger("done", `filter: {attributes: {type: order.done}}`))
	n.Send(url, event("eu", "order", "source", "/shop/eu", "region", "eu"))
	n.Send(url, event("us", "order", "source", "/shop/us"))
	n.Send(url, event("lab", "test", "source", "/lab/eu", "region", "eu"))
	sink.Await(t, "/done", "eu/order.done", "us/order.done")
	n.Send(url, event("end", "end", "source", "/end", "region", "none"))
	for name, want := range map[string]string{
		"everything": "end eu eu/order.done lab us us/order.done",
		"attributes": "eu",
		"prefix":     "end eu eu/order.done us us/order.done",
		"suffix":     "end eu eu/order.done lab",
		"not":        "end eu/order.done lab us/order.done",
		"all":        "end us",
		"cesql":      "end eu eu/order.done",
		"done":       "eu/order.done us/order.done",
	} {
		if strings.Contains(want, "end") {
			sink.Await(t, "/"+name, "end")
		} else {
			sink.Await(t, "/"+name, strings.Fields(want)...)
		}
		if got := strings.Join(sink.IDs("/"+name), " "); got != want {
			t.Errorf("trigger %s gets %s, want %s", name, got, want)
		}
	}
	reply := sink.Taken("/done")[0]
	if want := "data of " + strings.TrimSuffix(reply.ID(), "/order.done"); reply.Body != want {
		t.Errorf("the reply has data %q, want %q", reply.Body, want)
	}
	// The reply went through the Broker once more.
	if got := reply.Attribute("knativebrokerttl"); got != "" && got != "254" {
		t.Errorf("the reply's hop limit is %s, want 254", got)
	}
}

// TestEventsThatCannotBeDelivered: retries, and then the dead-letter sink, of the Trigger or else of the Broker.
func TestEventsThatCannotBeDelivered(t *testing.T) {
	n := beginEvents(t)
	tries := map[string]int{}
	var mu sync.Mutex
	sink := platform.NewSink(t, func(d platform.Delivery, w http.ResponseWriter) bool {
		mu.Lock()
		defer mu.Unlock()
		tries[d.Path+" "+d.ID()]++
		switch d.Path {
		case "/never":
			http.Error(w, "never\n", http.StatusServiceUnavailable)
		case "/refused":
			http.Error(w, "not this one", http.StatusBadRequest)
		case "/third":
			if tries[d.Path+" "+d.ID()] < 3 {
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			return false
		default:
			return false
		}
		return true
	})
	n.MakeReady(fmt.Sprintf(`
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec: {delivery: {retry: 2, backoffPolicy: linear, backoffDelay: PT0.01S, deadLetterSink: {uri: "%[1]s/of-the-broker"}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: never}
spec: {broker: default, subscriber: {uri: "%[1]s/never"}, delivery: {retry: 3, deadLetterSink: {uri: "%[1]s/of-the-trigger"}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: refused}
spec: {broker: default, subscriber: {uri: "%[1]s/refused"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: third}
spec: {broker: default, subscriber: {uri: "%[1]s/third"}}
`, sink.URL))
	url := n.EventsURL(eventingv1.GroupVersion.WithKind("Broker"), "default")
	n.Send(url, event("one", "any"))
	sink.Await(t, "/third", "one")
	for path, want := range map[string]struct {
		dest, code, data string
		tries            int
	}{
		"/of-the-trigger": {"/never", "503", "never\n\n", 4},
		"/of-the-broker":  {"/refused", "400", "not this one\n", 1}, // 400 is not tried again
	} {
		sink.Await(t, path, "one")
		d := sink.Taken(path)[0]
		data, _ := base64.StdEncoding.DecodeString(d.Attribute("knativeerrordata"))
		if d.Attribute("knativeerrordest") != sink.URL+want.dest || d.Attribute("knativeerrorcode") != want.code || string(data) != want.data || d.Body != "data of one" {
			t.Errorf("the dead letter at %s is %v with data %q and error data %q, want %+v", path, d.Header, d.Body, data, want)
		}
		mu.Lock()
		got := tries[want.dest+" one"]
		mu.Unlock()
		if got < want.tries { // at least once: one more is allowed
			t.Errorf("%s was tried %d times, want %d", want.dest, got, want.tries)
		}
	}
}

// TestChannelSequenceParallel: events through each, with replies.
func TestChannelSequenceParallel(t *testing.T) {
	n := beginEvents(t)
	// /step/X answers with X added to the data, /pass with the event, /drop with nothing; all else is taken.
	sink := platform.NewSink(t, func(d platform.Delivery, w http.ResponseWriter) bool {
		step, is := strings.CutPrefix(d.Path, "/step/")
		switch {
		case d.Path == "/pass":
			step = ""
		case !is:
			return d.Path == "/drop"
		}
		for name, values := range d.Header {
			if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
				w.Header()[name] = values
			}
		}
		fmt.Fprint(w, d.Body+step)
		return true
	})
	n.MakeReady(strings.ReplaceAll(`
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: first}
---
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: second}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: to-second}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: first}
  subscriber: {uri: "SINK/step/+1"}
  reply: {ref: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: second}}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: of-second}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: second}
  subscriber: {uri: "SINK/channel"}
---
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: steps}
spec:
  steps: [{uri: "SINK/step/+a"}, {uri: "SINK/step/+b"}, {uri: "SINK/step/+c"}]
  reply: {uri: "SINK/sequence"}
---
apiVersion: flows.knative.dev/v1
kind: Parallel
metadata: {name: branches}
spec:
  branches:
  - {filter: {uri: "SINK/pass"}, subscriber: {uri: "SINK/step/+left"}, reply: {uri: "SINK/left"}}
  - {filter: {uri: "SINK/drop"}, subscriber: {uri: "SINK/nobody"}}
  - {subscriber: {uri: "SINK/step/+right"}}
  reply: {uri: "SINK/right"}
`, "SINK", sink.URL))
	n.Send(n.EventsURL(messagingv1.GroupVersion.WithKind("Channel"), "first"), event("e", "any"))
	n.Send(n.EventsURL(flowsv1.GroupVersion.WithKind("Sequence"), "steps"), event("e", "any"))
	n.Send(n.EventsURL(flowsv1.GroupVersion.WithKind("Parallel"), "branches"), event("e", "any"))
	for path, want := range map[string]string{"/channel": "data of e+1", "/sequence": "data of e+a+b+c", "/left": "data of e+left", "/right": "data of e+right"} {
		sink.Await(t, path, "e")
		if got := sink.Taken(path)[0].Body; got != want {
			t.Errorf("%s gets %q, want %q", path, got, want)
		}
	}
	if got := sink.Taken("/nobody"); len(got) > 0 {
		t.Errorf("a branch whose filter answers nothing gets %v", got)
	}
}

// TestEventsInOrder: one at a time for each partition key, in the order they were sent, over failures.
func TestEventsInOrder(t *testing.T) {
	n := beginEvents(t)
	url := withBroker(n)
	var mu sync.Mutex
	flying, failed := map[string]string{}, map[string]bool{}
	sink := platform.NewSink(t, func(d platform.Delivery, w http.ResponseWriter) bool {
		key := d.Attribute("customer")
		mu.Lock()
		defer mu.Unlock()
		if other := flying[key]; other != "" && other != d.ID() {
			t.Errorf("%s is delivered before %s, of the same key, was answered with success", d.ID(), other)
		}
		flying[key] = d.ID()
		if !failed[d.ID()] && strings.HasSuffix(d.ID(), "3") { // each tenth fails once
			failed[d.ID()] = true
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		delete(flying, key)
		return false
	})
	n.MakeReady(fmt.Sprintf(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: inorder, annotations: {ebb.dev/delivery-order: ordered, ebb.dev/partition-key: customer}}
spec: {broker: default, subscriber: {uri: "%s/in"}, delivery: {backoffDelay: PT0.01S}}
`, sink.URL))
	const keys, each = 4, 30
	var senders sync.WaitGroup
	var all []string
	for k := range keys {
		for i := range each {
			all = append(all, fmt.Sprintf("%d-%02d", k, i))
		}
		senders.Go(func() {
			for i := range each {
				if err := platform.SendUntilTaken(t.Context(), url, event(fmt.Sprintf("%d-%02d", k, i), "any", "customer", fmt.Sprint("c", k))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	sink.Await(t, "/in", all...)
	last := map[string]string{}
	seen := map[string]bool{}
	for _, d := range sink.Taken("/in") {
		key := d.Attribute("customer")
		if !seen[d.ID()] && d.ID() < last[key] {
			t.Errorf("%s comes after %s", d.ID(), last[key])
		}
		seen[d.ID()], last[key] = true, max(last[key], d.ID())
	}
}

// TestModesOfEvents: a megabyte, structured mode, batches, names of all languages; and sent in structured mode.
func TestModesOfEvents(t *testing.T) {
	n := beginEvents(t)
	url := withBroker(n)
	sink := platform.NewSink(t, nil)
	n.MakeReady(fmt.Sprintf(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: binary}
spec: {broker: default, subscriber: {uri: "%[1]s/binary"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: structured}
spec: {broker: default, filter: {attributes: {type: json}}, subscriber: {uri: "%[1]s/structured"}, delivery: {format: json}}
`, sink.URL))
	large := event("large", "large")
	large.Data = strings.Repeat("0123456789abcdef", 1<<16-64) // with its attributes just below a MiB
	n.Send(url, large)
	post := func(kind, body string, want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		if a, err := platform.Call(http.DefaultClient, r); err != nil || a.Status != want {
			t.Errorf("POST of %s answers %s, %v, want %d", kind, a, err, want)
		}
	}
	post("application/cloudevents+json", `{"specversion":"1.0","id":"structured","type":"json","source":"/test","subject":"Grüße 日本","datacontenttype":"application/json","data":{"a":[1,2]}}`, http.StatusAccepted)
	post("application/cloudevents-batch+json", `[{"specversion":"1.0","id":"b1","type":"b","source":"/test","data":1},{"specversion":"1.0","id":"b2","type":"b","source":"/test","data_base64":"AP8="}]`, http.StatusAccepted)
	post("application/cloudevents-batch+json", `[{"specversion":"1.0","id":"b3","type":"b","source":"/test"},{"specversion":"1.0","id":"b4","source":"/test"}]`, http.StatusBadRequest)
	post("application/cloudevents+json", `{"specversion":"1.0","id":"x"}`, http.StatusBadRequest)
	sink.Await(t, "/binary", "large", "structured", "b1", "b2")
	for _, d := range sink.Taken("/binary") {
		switch d.ID() {
		case "large":
			if d.Body != large.Data {
				t.Errorf("of %d bytes %d came, or others", len(large.Data), len(d.Body))
			}
		case "structured":
			var data map[string][]int
			if d.Attribute("subject") != "Gr%C3%BC%C3%9Fe%20%E6%97%A5%E6%9C%AC" || json.Unmarshal([]byte(d.Body), &data) != nil || !slices.Equal(data["a"], []int{1, 2}) {
				t.Errorf("in binary mode it is %v %q", d.Header, d.Body)
			}
		case "b2":
			if d.Body != "\x00\xff" {
				t.Errorf("b2 has data %q", d.Body)
			}
		case "b3", "b4":
			t.Errorf("%s of a refused batch was delivered", d.ID())
		}
	}
	platform.Until(t, "the event in structured mode", func() error {
		if len(sink.Taken("/structured")) == 0 {
			return fmt.Errorf("it is missing")
		}
		return nil
	})
	var e map[string]any
	d := sink.Taken("/structured")[0]
	if err := json.Unmarshal([]byte(d.Body), &e); err != nil || e["subject"] != "Grüße 日本" || e["id"] != "structured" || !strings.HasPrefix(d.Header.Get("Content-Type"), "application/cloudevents+json") {
		t.Errorf("in structured mode it is %v %s", d.Header, d.Body)
	}
}

// TestBrokenFilterSaysWhere: a Trigger with a filter that does not parse is not Ready, and says where; mended, it is.
func TestBrokenFilterSaysWhere(t *testing.T) {
	n := beginEvents(t)
	withBroker(n)
	trigger := n.Make(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: broken}
spec: {broker: default, filters: [{cesql: "type = 'a' AND"}], subscriber: {uri: "http://127.0.0.1:9/"}}
`)[0]
	if message := n.AwaitCondition(trigger, "Ready", "False"); !regexp.MustCompile(`filters\[0\].*at character \d+`).MatchString(message) {
		t.Errorf("it says %q, want the filter and the place in it", message)
	}
	command(t, n, "kubectl", "patch", "trigger", "broken", "--type=merge", "-p", `{"spec":{"filters":[{"cesql":"type = 'a'"}]}}`)
	n.AwaitCondition(trigger, "Ready", "True")
}
