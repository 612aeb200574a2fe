package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
)

// HashAnnotation holds the hash of the content that was applied last.
const HashAnnotation = serving.EbbGroupName + "/applied"

// Object applies want (metadata and spec; its status is left out) as manager, creating
// the object when it is not there. seen is the object as last read, or nil; when it has
// all that want says and nothing was dropped since the last write, nothing is sent. It
// returns whether the stored object is now another than seen.
func Object(ctx context.Context, c client.Client, manager string, want, seen client.Object) (bool, error) {
	if err := Stamp(want); err != nil {
		return false, err
	}
	content, err := encode(c, want)
	if err != nil {
		return false, err
	}
	delete(content, "status")
	if !isNil(seen) && seen.GetAnnotations()[HashAnnotation] == want.GetAnnotations()[HashAnnotation] {
		have, err := encode(c, seen)
		if err != nil {
			return false, err
		}
		if contains(have, content) {
			return false, nil
		}
	}
	stored, err := send(ctx, c, manager, content)
	return err == nil && (isNil(seen) || stored.GetResourceVersion() != seen.GetResourceVersion()), err
}

// Place is where an object was found.
type Place int

const (
	// Nowhere means that it does not exist.
	Nowhere Place = iota
	// Live means that the API server has it and the cache does not, or not yet. A status read there
	// is ahead of the cache: who acts on it goes back when an older state is seen next.
	Live
	// Cached means that it is as everybody else sees it.
	Cached
)

// Read reads an object by the key of into from the cache and, where it is not there,
// from the API server itself: what is about to be created may have been, by another, or
// be outside what the cache holds.
func Read(ctx context.Context, cached, live client.Reader, key client.ObjectKey, into client.Object) (Place, error) {
	place := Cached
	err := cached.Get(ctx, key, into)
	if apierrors.IsNotFound(err) {
		place = Live
		err = live.Get(ctx, key, into)
	}
	if apierrors.IsNotFound(err) {
		return Nowhere, nil
	}
	if err != nil {
		return Nowhere, fmt.Errorf("read %T %s: %w", into, key, err)
	}
	return place, nil
}

// Metadata applies the labels and annotations that manager wants on an object that must
// exist already: its UID is a condition of the write, so that nothing is created in its
// place. Those that manager wrote before and does not name now go away. It always sends.
func Metadata(ctx context.Context, c client.Client, manager string, seen client.Object, labels, annotations map[string]string) error {
	content, err := identity(c, seen)
	if err != nil {
		return err
	}
	metadata := content["metadata"].(map[string]any)
	metadata["labels"], metadata["annotations"] = values(labels), values(annotations)
	_, err = send(ctx, c, manager, content)
	return err
}

// Finalizers applies finalizers of manager's on an object that must exist already, beside those of others. It always
// sends, and there is no conflict with what others change meanwhile. It returns the object's new version.
func Finalizers(ctx context.Context, c client.Client, manager string, seen client.Object, names ...string) (version string, err error) {
	content, err := identity(c, seen)
	if err != nil {
		return "", err
	}
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = name
	}
	content["metadata"].(map[string]any)["finalizers"] = list
	stored, err := send(ctx, c, manager, content)
	if err != nil {
		return "", err
	}
	return stored.GetResourceVersion(), nil
}

// Status applies the status of want as manager, unless seen has an equal one. seen is
// the object as last read; its UID is a condition of the write. It returns whether
// something was sent.
func Status(ctx context.Context, c client.Client, manager string, want, seen client.Object) (bool, error) {
	next, err := encode(c, want)
	if err != nil {
		return false, err
	}
	have, err := encode(c, seen)
	if err != nil {
		return false, err
	}
	if reflect.DeepEqual(next["status"], have["status"]) {
		return false, nil
	}
	content, err := identity(c, seen)
	if err != nil {
		return false, err
	}
	content["status"] = next["status"]
	err = c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content}),
		client.FieldOwner(manager), client.ForceOwnership)
	if err != nil {
		return false, fmt.Errorf("%s %s/%s: write status: %w", content["kind"], seen.GetNamespace(), seen.GetName(), err)
	}
	return true, nil
}

// Stamp sets the HashAnnotation of an object that is about to be created as it is, so
// that the next Object with the same content sends nothing.
func Stamp(o client.Object) error {
	annotations := map[string]string{}
	for k, v := range o.GetAnnotations() {
		if k != HashAnnotation {
			annotations[k] = v
		}
	}
	o.SetAnnotations(annotations)
	raw, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode %T %s/%s: %w", o, o.GetNamespace(), o.GetName(), err)
	}
	sum := sha256.Sum256(raw)
	annotations[HashAnnotation] = hex.EncodeToString(sum[:8])
	return nil
}

func send(ctx context.Context, c client.Client, manager string, content map[string]any) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: content}
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(manager), client.ForceOwnership)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: apply as %s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), manager, err)
	}
	return u, nil
}

// encode turns an object into the JSON that is sent: with its kind, without nulls and
// without what only the API server writes.
func encode(c client.Client, o client.Object) (map[string]any, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %T %s/%s: %w", o, o.GetNamespace(), o.GetName(), err)
	}
	content := map[string]any{}
	if err := json.Unmarshal(raw, &content); err != nil {
		return nil, fmt.Errorf("decode %T %s/%s: %w", o, o.GetNamespace(), o.GetName(), err)
	}
	gvk, err := c.GroupVersionKindFor(o)
	if err != nil {
		return nil, fmt.Errorf("kind of %T: %w", o, err)
	}
	content["apiVersion"], content["kind"] = gvk.GroupVersion().String(), gvk.Kind
	if metadata, ok := content["metadata"].(map[string]any); ok {
		for _, field := range []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"} {
			delete(metadata, field)
		}
	}
	dropNulls(content)
	return content, nil
}

func identity(c client.Client, o client.Object) (map[string]any, error) {
	gvk, err := c.GroupVersionKindFor(o)
	if err != nil {
		return nil, fmt.Errorf("kind of %T: %w", o, err)
	}
	return map[string]any{
		"apiVersion": gvk.GroupVersion().String(), "kind": gvk.Kind,
		"metadata": map[string]any{"name": o.GetName(), "namespace": o.GetNamespace(), "uid": string(o.GetUID())},
	}, nil
}

func dropNulls(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			dropNulls(v)
		case []any:
			for _, item := range v {
				if item, ok := item.(map[string]any); ok {
					dropNulls(item)
				}
			}
		}
	}
}

// contains says whether have has every value of want; lists must be of one length.
func contains(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return len(want) == 0 && have == nil
		}
		for k, v := range want {
			if !contains(have[k], v) {
				return false
			}
		}
		return true
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return false
		}
		for i := range want {
			if !contains(have[i], want[i]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(have, want)
	}
}

func values(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func isNil(o client.Object) bool {
	return o == nil || (reflect.ValueOf(o).Kind() == reflect.Pointer && reflect.ValueOf(o).IsNil())
}
