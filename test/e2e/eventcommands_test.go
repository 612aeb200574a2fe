package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// TestEventCommands is a user's way through brokers, triggers, sources and dead letters with ebb alone.
func TestEventCommands(t *testing.T) {
	n := beginEvents(t)
	var mended atomic.Bool
	sink := platform.NewSink(t, func(d platform.Delivery, w http.ResponseWriter) bool {
		if d.Path == "/broken" && !mended.Load() {
			http.Error(w, "no luck today", http.StatusBadRequest)
			return true
		}
		return false
	})
	n.DeployAtZero("shop", nil)

	_, errOut, err := n.Command(t.Context(), "", "broker", "list", "-n", n.In)
	if err != nil || !strings.Contains(errOut, "No brokers in namespace "+n.In) {
		t.Errorf("list of nothing says %q, %v", errOut, err)
	}
	matches(t, "send", refused(t, n, "events", "send", "default", "--type", "x"), `broker "default" is not in namespace `+n.In+": `ebb broker list`")
	matches(t, "broker create", command(t, n, "broker", "create", "default", "--retry", "1", "--backoff-delay", "PT0.01S"), `^broker "default" created\n$`)
	matches(t, "broker create", refused(t, n, "broker", "create", "default"), `broker "default" is there already`)
	matches(t, "broker create", refused(t, n, "broker", "create", "other", "--backoff-delay", "1s"), `spec\.delivery\.backoffDelay`)
	matches(t, "broker describe", command(t, n, "broker", "describe", "default"), `No triggers: its events go nowhere`)
	matches(t, "trigger create", command(t, n, "trigger", "create", "orders", "--filter", "type=order", "--sink", "ksvc:shop/reply?type=order.done"), `^trigger "orders" created\n$`)
	matches(t, "trigger create", command(t, n, "trigger", "create", "done", "--cesql", "type = 'order.done'", "--ordered", "--partition-key", "customer", "--sink", sink.URL+"/done", "-o", "name"), `^trigger.eventing.knative.dev/done\n$`)
	command(t, n, "trigger", "create", "broken", "-f", "type=bad", "--sink", sink.URL+"/broken")
	matches(t, "trigger create", refused(t, n, "trigger", "create", "worse", "--cesql", "type = 'a' AND", "--sink", sink.URL), `(?s)created, but FilterInvalid: .*at character \d+.*ebb trigger describe worse`)
	matches(t, "trigger create", refused(t, n, "trigger", "create", "nobody", "--sink", "shop"), `--sink "shop" is neither KIND:NAME nor a URL: a Service is ksvc:shop`)
	command(t, n, "trigger", "delete", "worse")

	out := command(t, n, "trigger", "list", "-o", "wide")
	for _, pattern := range []string{
		`(?m)^NAME +BROKER +FILTER +SINK +ORDER +URL +READY +AGE$`,
		`(?m)^orders +default +type=order +ksvc:shop/reply\?type=order.done +unordered +http://shop\.`,
		`(?m)^done +default +type = 'order.done' +http://127\S+/done +ordered by customer +http://127\S+/done +True `,
	} {
		matches(t, "trigger list", out, pattern)
	}
	var list eventingv1.TriggerList
	if err := json.Unmarshal([]byte(command(t, n, "trigger", "list", "-o", "json")), &list); err != nil || len(list.Items) != 3 || list.Items[0].Kind != "Trigger" {
		t.Errorf("trigger list -o json has %d, %v", len(list.Items), err)
	}
	matches(t, "broker describe", command(t, n, "broker", "describe", "default"), `(?s)URL: +http.*Retries: +1\n.*CONDITION.*Ready +True.*broken +default +type=bad`)

	// Events, and what passes.
	matches(t, "send", command(t, n, "events", "send", "default", "--type", "order", "--id", "one", "--payload", `{"amount":3}`, "--extension", "customer=c1"), `event "one" of type order is stored`)
	sink.Await(t, "/done", "one/order.done")
	matches(t, "send", refused(t, n, "events", "send", "default", "--type", "order", "--extension", "Not-A-Name=1"), `(?i)Not-A-Name`)
	matches(t, "send", refused(t, n, "events", "send", "default"), `--type is missing`)
	// The place of the broken trigger keeps nothing, so the two events may be gone from the store: those to come are watched.
	tailed := make(chan string, 1)
	go func() {
		out, errOut, err := n.Command(t.Context(), "", "events", "tail", "default", "-n", n.In, "--filter", "type=seen", "--count", "1", "-o", "json")
		if err != nil {
			out += errOut + err.Error()
		}
		tailed <- out
	}()
	sent := 0
	platform.Until(t, "events tail", func() error {
		n.Send(n.EventsURL(eventingv1.GroupVersion.WithKind("Broker"), "default"), event(fmt.Sprint("seen-", sent), "seen"))
		sent++
		select {
		case got := <-tailed:
			matches(t, "events tail", got, `^\{"specversion":"1.0","id":"seen-\d+".*"type":"seen".*\}\n$`)
			return nil
		default:
			return fmt.Errorf("it shows none of %d events", sent)
		}
	})

	// Dead letters.
	command(t, n, "events", "send", "default", "--type", "bad", "--id", "lost", "--payload", "-")
	platform.Until(t, "the dead letter", func() error {
		out, errOut, err := n.Command(t.Context(), "", "events", "dead-letters", "list", "default", "-n", n.In)
		if err == nil && !regexp.MustCompile(`(?m)^\d+ +\d+\S* +broken +bad +lost +400 +no luck today$`).MatchString(out) {
			err = fmt.Errorf("%s%s", out, errOut)
		}
		return err
	})
	if out := command(t, n, "events", "dead-letters", "list", "default", "--trigger", "orders", "-o", "name"); out != "" {
		t.Errorf("trigger orders has dead letters: %s", out)
	}
	number := strings.TrimSpace(command(t, n, "events", "dead-letters", "list", "default", "-o", "name"))
	mended.Store(true)
	matches(t, "redeliver", command(t, n, "events", "dead-letters", "redeliver", "default", "--sequence", number), `^1 of 1 dead letters are delivered again\n$`)
	sink.Await(t, "/broken", "lost")
	matches(t, "redeliver", refused(t, n, "events", "dead-letters", "redeliver", "default", "--sequence", "999"), `broker "default" has no dead letter 999`)

	// Changes and sources.
	command(t, n, "trigger", "update", "broken", "--filter", "type=tick", "--sink", sink.URL+"/ticks", "--retry", "5")
	matches(t, "trigger describe", command(t, n, "trigger", "describe", "broken"), `(?s)Filter: +type=tick\nSink: +http\S+/ticks\n.*Retries: +5\n.*FilterReady +True`)
	command(t, n, "source", "ping", "create", "tick", "--schedule", "@every 1s", "--payload", `{"n":1}`, "--sink", sink.URL+"/ping")
	matches(t, "source ping list", command(t, n, "source", "ping", "list"), `(?m)^tick +@every 1s +http\S+/ping +True `)
	platform.Until(t, "a tick", func() error {
		if len(sink.Taken("/ping")) == 0 {
			return fmt.Errorf("none has come")
		}
		return nil
	})
	matches(t, "source ping delete", command(t, n, "source", "ping", "delete", "tick"), `source ping "tick" deleted`)
	command(t, n, "kubectl", "create", "serviceaccount", "watcher")
	command(t, n, "kubectl", "create", "role", "watcher", "--verb=get,list,watch", "--resource=configmaps")
	command(t, n, "kubectl", "create", "rolebinding", "watcher", "--role=watcher", "--serviceaccount="+n.In+":watcher")
	command(t, n, "source", "apiserver", "create", "maps", "--resource", "v1:ConfigMap", "--service-account", "watcher", "--sink", sink.URL+"/maps")
	platform.Until(t, "an event of an object", func() error {
		if len(sink.Taken("/maps")) == 0 {
			return fmt.Errorf("none has come")
		}
		return nil
	})
	matches(t, "source apiserver describe", command(t, n, "source", "apiserver", "describe", "maps"), `Resources: +v1:ConfigMap`)
	command(t, n, "source", "apiserver", "delete", "maps")
	command(t, n, "trigger", "delete", "orders", "done", "broken")
	matches(t, "broker delete", command(t, n, "broker", "delete", "default"), `broker "default" deleted`)
}
