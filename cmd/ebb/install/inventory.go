package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	objects "ebb.dev/ebb/config/install"
)

// InventoryName is the ConfigMap that says what is installed.
const InventoryName = "ebb-installation"

const inventoryKey = "installation.json"

// inventory is which version is installed and the objects that it has.
type inventory struct {
	Version string      `json:"version"`
	Objects []reference `json:"objects"`
}

// reference names an object.
type reference struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (r reference) object() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind})
	u.SetNamespace(r.Namespace)
	u.SetName(r.Name)
	return u
}

// unversioned is equal for one object in two versions of its API.
func (r reference) unversioned() reference {
	r.Version = ""
	return r
}

func inventoryOf(version string, stages []objects.Stage) *inventory {
	list := &inventory{Version: version}
	for _, s := range stages {
		for _, o := range s.Objects {
			kind := o.GetObjectKind().GroupVersionKind()
			list.Objects = append(list.Objects, reference{kind.Group, kind.Version, kind.Kind, o.GetNamespace(), o.GetName()})
		}
	}
	return list
}

// with is both, in the order of the first, with the version of the second until all is done.
func (l *inventory) with(before *inventory) *inventory {
	if before == nil {
		return l
	}
	both := &inventory{Version: before.Version, Objects: slices.Clone(l.Objects)}
	for _, r := range before.Objects {
		if !slices.Contains(both.Objects, r) {
			both.Objects = append(both.Objects, r)
		}
	}
	return both
}

// inventory of the cluster; nil where there is none.
func (i *installer) inventory(ctx context.Context) (*inventory, error) {
	var m corev1.ConfigMap
	err := i.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: InventoryName}, &m)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err, "read what is installed")
	}
	var list inventory
	if err := json.Unmarshal([]byte(m.Data[inventoryKey]), &list); err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s, key %s: %w: delete the ConfigMap, it is made again; what an older version had is not removed then", objects.Namespace, InventoryName, inventoryKey, err)
	}
	return &list, nil
}

func (i *installer) writeInventory(ctx context.Context, list *inventory) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return i.send(ctx, &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: objects.Namespace, Name: InventoryName, Labels: map[string]string{objects.PartOfLabel: objects.PartOf}},
		Data:       map[string]string{inventoryKey: string(text)},
	})
}
