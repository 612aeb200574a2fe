package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Make creates the objects of a manifest in the namespace and returns them.
func (n *Namespace) Make(manifest string) []*unstructured.Unstructured {
	n.Helper()
	var all []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			n.Fatalf("%v in:\n%s", err, manifest)
		}
		o.SetNamespace(n.In)
		if err := n.Create(n.Context(), o); err != nil {
			n.Fatalf("create %s %s: %v", o.GetKind(), o.GetName(), err)
		}
		all = append(all, o)
	}
}

// MakeReady is Make of objects that get Ready; it waits until they are.
func (n *Namespace) MakeReady(manifest string) []*unstructured.Unstructured {
	n.Helper()
	all := n.Make(manifest)
	for _, o := range all {
		n.AwaitCondition(o, "Ready", "True")
	}
	return all
}

// AwaitCondition waits until a condition of an object, as it is now written, has a status, and returns the message.
func (n *Namespace) AwaitCondition(o *unstructured.Unstructured, condition, status string) string {
	n.Helper()
	message := ""
	Until(n, fmt.Sprintf("%s %s", o.GetKind(), o.GetName()), func() error {
		if err := n.WithWatch.Get(context.Background(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		seen, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
		if seen != o.GetGeneration() {
			return fmt.Errorf("generation %d is not seen", o.GetGeneration())
		}
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if c, _ := c.(map[string]any); c["type"] == condition {
				if message, _ = c["message"].(string); c["status"] == status {
					return nil
				}
			}
		}
		return fmt.Errorf("%s is not %s: %v", condition, status, conditions)
	})
	return message
}

// EventsURL is where a Broker, Channel, Sequence or Parallel of the namespace takes events.
func (n *Namespace) EventsURL(kind schema.GroupVersionKind, name string) string {
	n.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	if err := n.WithWatch.Get(n.Context(), client.ObjectKey{Namespace: n.In, Name: name}, o); err != nil {
		n.Fatal(err)
	}
	url, _, _ := unstructured.NestedString(o.Object, "status", "address", "url")
	if url == "" {
		n.Fatalf("%s %s has no address", kind.Kind, name)
	}
	return url
}

// Event is one to be sent in binary mode: its attributes by name, of which id, source and type have to be there.
type Event struct {
	Attributes map[string]string
	Data       string
}

// SendOnce posts an event and returns the answer.
func SendOnce(ctx context.Context, url string, e Event) (Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(e.Data))
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Ce-Specversion", "1.0")
	for name, value := range e.Attributes {
		r.Header.Set("Ce-"+name, value)
	}
	return Call(http.DefaultClient, r)
}

// Send posts an event until it is taken, as a client has to.
func (n *Namespace) Send(url string, e Event) {
	n.Helper()
	if err := SendUntilTaken(n.Context(), url, e); err != nil {
		n.Fatalf("send event %s to %s: %v", e.Attributes["id"], url, err)
	}
}

// SendUntilTaken posts an event again as long as it is not answered, or with 429 or a status of 5xx.
func SendUntilTaken(ctx context.Context, url string, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	return poll(ctx, func() error {
		one, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		answer, err := SendOnce(one, url, e)
		switch {
		case err != nil:
			return err
		case answer.Status == http.StatusAccepted:
			return nil
		case answer.Status == http.StatusTooManyRequests || answer.Status >= 500:
			return fmt.Errorf("it answers %s", answer)
		}
		return final{fmt.Errorf("it answers %s", answer)}
	})
}
