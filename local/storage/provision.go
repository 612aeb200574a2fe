package storage

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	helpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// finalizer keeps a volume's object until its folder is gone.
const finalizer = "ebb.dev/local-volume"

// provision makes the volume of a claim that is to have one of this node's.
func (s *Storage) provision(ctx context.Context, namespace, name string) error {
	claim, err := s.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil || claim.Annotations[helpers.AnnStorageProvisioner] != Provisioner {
		return nil
	}
	class, err := s.classes.Get(helpers.GetPersistentVolumeClaimClass(claim))
	if apierrors.IsNotFound(err) {
		return nil // it comes back with the class
	}
	if err != nil {
		return err
	}
	if late(class) && claim.Annotations[helpers.AnnSelectedNode] != s.cfg.Node {
		return nil // until a pod wants it
	}
	if why := unfit(claim, class); why != "" {
		s.cfg.Events.Event(claim, v1.EventTypeWarning, "ProvisioningFailed", why)
		return nil // neither of both can change
	}
	volume := s.volumeFor(claim, class)
	if _, err := s.volumes.Get(volume.Name); err == nil {
		return nil // binding it is Kubernetes' own
	}
	if err := makeFolder(volume.Spec.Local.Path); err != nil {
		s.cfg.Events.Eventf(claim, v1.EventTypeWarning, "ProvisioningFailed", "make its folder: %v", err)
		return err
	}
	_, err = s.cfg.Client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create PersistentVolume %s: %w", volume.Name, err)
	}
	s.cfg.Events.Eventf(claim, v1.EventTypeNormal, "ProvisioningSucceeded", "its files are in %s", volume.Spec.Local.Path)
	return nil
}

func late(class *storagev1.StorageClass) bool {
	return ptr.Deref(class.VolumeBindingMode, "") == storagev1.VolumeBindingWaitForFirstConsumer
}

// unfit says why a claim cannot have a folder; "" when it can.
func unfit(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) string {
	switch {
	case ptr.Deref(claim.Spec.VolumeMode, "") == v1.PersistentVolumeBlock:
		return "volumeMode Block: this node has folders only, make the claim with volumeMode Filesystem"
	case claim.Spec.Selector != nil:
		return "selector: a volume that is made for the claim has no labels to select by, make the claim without"
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return "dataSource: this node's volumes begin empty, make the claim without"
	case len(class.Parameters) > 0:
		return fmt.Sprintf("StorageClass %s: %s has no parameters, and the class gives %s", class.Name, Provisioner, strings.Join(slices.Sorted(maps.Keys(class.Parameters)), ", "))
	}
	return ""
}

func (s *Storage) volumeFor(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) *v1.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{finalizer}, Annotations: map[string]string{helpers.AnnDynamicallyProvisioned: Provisioner}},
		Spec: v1.PersistentVolumeSpec{
			StorageClassName: class.Name, AccessModes: claim.Spec.AccessModes, VolumeMode: claim.Spec.VolumeMode, MountOptions: class.MountOptions,
			VolumeAttributesClassName:     claim.Spec.VolumeAttributesClassName,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: ptr.Deref(class.ReclaimPolicy, v1.PersistentVolumeReclaimDelete),
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: s.folder(name)}},
			ClaimRef: &v1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{
				{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{s.cfg.Node}},
			}}}}},
		},
	}
}

func (s *Storage) folder(volume string) string { return filepath.Join(s.cfg.Dir, volume) }

// makeFolder lets any user of a container write, as an emptyDir does.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return os.Chmod(dir, 0o777) // whatever the umask
}
