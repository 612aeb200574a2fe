package serve

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/config/install"
	"ebb.dev/ebb/proxy/members"
)

// ActivatorsConfigMap keeps who the activators are, for the next leader.
const ActivatorsConfigMap = install.ActivatorsConfigMap

const activatorsKey = "activators.json"

// activatorList is the list of activators in a ConfigMap. Only the leader writes it.
type activatorList struct {
	client    client.Client
	live      client.Reader
	namespace string
}

// Load reads past the cache, which may not have the last leader's word yet.
func (l *activatorList) Load(ctx context.Context) (members.List, error) {
	var list members.List
	var m corev1.ConfigMap
	err := l.live.Get(ctx, client.ObjectKey{Namespace: l.namespace, Name: ActivatorsConfigMap}, &m)
	if apierrors.IsNotFound(err) {
		return list, nil
	}
	if err != nil {
		return list, fmt.Errorf("read ConfigMap %s/%s: %w", l.namespace, ActivatorsConfigMap, err)
	}
	if text := m.Data[activatorsKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return list, fmt.Errorf("ConfigMap %s/%s, key %s: %w: delete it, it is made again", l.namespace, ActivatorsConfigMap, activatorsKey, err)
		}
	}
	return list, nil
}

func (l *activatorList) Save(ctx context.Context, list members.List) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: ActivatorsConfigMap},
		Data:       map[string]string{activatorsKey: string(text)},
	}
	if err = l.client.Update(ctx, m); apierrors.IsNotFound(err) {
		err = l.client.Create(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", l.namespace, ActivatorsConfigMap, err)
	}
	return nil
}
