package storage

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	helpers "k8s.io/component-helpers/storage/volume"
)

// reclaim removes a volume of this node's whose claim has gone, as its reclaim policy says.
func (s *Storage) reclaim(ctx context.Context, name string) error {
	volume, err := s.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if volume.Annotations[helpers.AnnDynamicallyProvisioned] != Provisioner {
		return nil
	}
	deleted := volume.DeletionTimestamp != nil
	if volume.Status.Phase != v1.VolumeReleased && (!deleted || volume.Status.Phase == v1.VolumeBound) {
		return nil
	}
	if volume.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimDelete {
		if err := removeAll(s.folder(name)); err != nil {
			s.cfg.Events.Eventf(volume, v1.EventTypeWarning, "VolumeFailedDelete", "remove its folder: %v", err)
			return fmt.Errorf("remove the folder of PersistentVolume %s: %w", name, err)
		}
	} else if !deleted {
		return nil // kept, with its object, for somebody to look at
	}
	if at := slices.Index(volume.Finalizers, finalizer); at >= 0 {
		volume = volume.DeepCopy()
		volume.Finalizers = slices.Delete(volume.Finalizers, at, at+1)
		if _, err := s.cfg.Client.CoreV1().PersistentVolumes().Update(ctx, volume, metav1.UpdateOptions{}); err != nil {
			return ignore(err)
		}
	}
	if deleted {
		return nil
	}
	return ignore(s.cfg.Client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &volume.UID}}))
}

// ignore forgets what a newer event of the object brings again, or makes needless.
func ignore(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// removeAll deletes a tree that may hold folders without write permission.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // of a folder that goes
		}
		return nil
	})
	return os.RemoveAll(dir)
}
