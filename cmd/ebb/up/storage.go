package up

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	storageClass = "standard"
	provisioner  = "ebb.dev/local" // local/storage, in the node
)

// installStorage makes the class of claims that name none. One that is there stays as it is:
// what it makes cannot be changed, and whether it is the default is the user's to say.
func installStorage(ctx context.Context, c client.Client) error {
	err := c.Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        storageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner:       provisioner,
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
	}, fieldOwner)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("install StorageClass %s: %w", storageClass, err)
	}
	return nil
}
