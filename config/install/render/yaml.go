package render

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Content is an object as it is written: what it has, and nothing that the API server adds.
func Content(o client.Object) (map[string]any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", o.GetObjectKind().GroupVersionKind().Kind, o.GetName(), err)
	}
	delete(content, "status")
	claims, _, _ := unstructured.NestedSlice(content, "spec", "volumeClaimTemplates")
	for _, c := range claims {
		delete(c.(map[string]any), "status")
	}
	if len(claims) > 0 {
		if err := unstructured.SetNestedSlice(content, claims, "spec", "volumeClaimTemplates"); err != nil {
			return nil, err
		}
	}
	prune(content)
	return content, nil
}

// prune drops what typed objects write of fields that nobody set.
func prune(content map[string]any) {
	for key, value := range content {
		switch v := value.(type) {
		case nil:
			delete(content, key)
		case map[string]any:
			if key == "resources" && len(v) == 0 {
				delete(content, key)
			}
			prune(v)
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					prune(m)
				}
			}
		}
	}
}

// Unstructured is an object as it is applied.
func Unstructured(o client.Object) (*unstructured.Unstructured, error) {
	content, err := Content(o)
	return &unstructured.Unstructured{Object: content}, err
}

// YAML is a stream of documents.
func YAML(objects []client.Object) ([]byte, error) {
	var b bytes.Buffer
	for i, o := range objects {
		content, err := Content(o)
		if err != nil {
			return nil, err
		}
		text, err := yaml.Marshal(content)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}
