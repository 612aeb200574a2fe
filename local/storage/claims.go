package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
	helpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// ClaimOf is the name of the claim behind a volume of a pod; "" when it has none.
func ClaimOf(pod *v1.Pod, volume *v1.Volume) string {
	switch {
	case volume.PersistentVolumeClaim != nil:
		return volume.PersistentVolumeClaim.ClaimName
	case volume.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, volume)
	}
	return ""
}

// HasClaims says whether any volume of the pod has a claim behind it.
func HasClaims(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return v.PersistentVolumeClaim != nil || v.Ephemeral != nil })
}

// Missing says what the claims of a pod that is to run here lack, and the next step; "" when
// all are bound. A claim that waits for its first pod is given this node, or a volume that is
// there and fits. It blocks until claims are known.
func (s *Storage) Missing(ctx context.Context, pod *v1.Pod) (string, error) {
	if err := s.ready(ctx); err != nil {
		return "", err
	}
	var all []string
	taken := map[string]*v1.PersistentVolume{} // by this pod's own claims
	for i := range pod.Spec.Volumes {
		name := ClaimOf(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		claim, words := s.claim(pod, &pod.Spec.Volumes[i])
		if words == "" && claim.DeletionTimestamp != nil {
			words = "is being deleted: make it anew once it has gone"
		}
		if words == "" {
			_, words = s.volume(claim)
		}
		if words != "" && claim != nil && claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil {
			var err error
			if words, err = s.unbound(ctx, claim, taken); err != nil {
				return "", err
			}
		}
		if words != "" {
			all = append(all, fmt.Sprintf("persistentvolumeclaim %q %s", name, words))
		}
	}
	return strings.Join(all, "; "), nil
}

// Source is where on this machine the files are of the claim behind a volume of a pod. It
// blocks until claims are known.
func (s *Storage) Source(ctx context.Context, pod *v1.Pod, volume *v1.Volume) (*v1.HostPathVolumeSource, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	name := ClaimOf(pod, volume)
	claim, words := s.claim(pod, volume)
	if words != "" {
		return nil, fmt.Errorf("persistentvolumeclaim %q %s", name, words)
	}
	bound, words := s.volume(claim)
	switch {
	case words != "":
		return nil, fmt.Errorf("persistentvolumeclaim %q %s", name, words)
	case bound.Annotations[helpers.AnnDynamicallyProvisioned] == Provisioner: // wherever the data is now
		return &v1.HostPathVolumeSource{Path: s.folder(bound.Name), Type: ptr.To(v1.HostPathDirectory)}, nil
	case bound.Spec.Local != nil:
		return &v1.HostPathVolumeSource{Path: bound.Spec.Local.Path, Type: ptr.To(v1.HostPathDirectory)}, nil
	case bound.Spec.HostPath != nil:
		return bound.Spec.HostPath, nil
	}
	return nil, fmt.Errorf("persistentvolume %q of claim %q is of a kind that this node does not have: use local, hostPath or a StorageClass of provisioner %s", bound.Name, name, Provisioner)
}

// Alone says whether a claim is for one pod at a time.
func (s *Storage) Alone(namespace, name string) bool {
	claim, err := s.claims.PersistentVolumeClaims(namespace).Get(name)
	return err == nil && slices.Contains(claim.Spec.AccessModes, v1.ReadWriteOncePod)
}

// claim is that of a volume of a pod, or what is wrong with it.
func (s *Storage) claim(pod *v1.Pod, volume *v1.Volume) (*v1.PersistentVolumeClaim, string) {
	claim, err := s.claims.PersistentVolumeClaims(pod.Namespace).Get(ClaimOf(pod, volume))
	switch {
	case apierrors.IsNotFound(err) && volume.Ephemeral != nil:
		return nil, "is not made yet: it comes with the pod"
	case apierrors.IsNotFound(err):
		return nil, fmt.Sprintf("not found: create it in namespace %s", pod.Namespace)
	case err != nil:
		return nil, err.Error()
	}
	if volume.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
			return nil, fmt.Sprintf("is in the way of ephemeral volume %q: it was not made for this pod, delete it", volume.Name)
		}
	}
	return claim, ""
}

// volume is the one that a claim is bound to, or why there is none to use.
func (s *Storage) volume(claim *v1.PersistentVolumeClaim) (*v1.PersistentVolume, string) {
	if claim.Spec.VolumeName == "" || claim.Annotations[helpers.AnnBindCompleted] == "" {
		return nil, "is not bound yet"
	}
	volume, err := s.volumes.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) || claim.Status.Phase == v1.ClaimLost {
		return nil, fmt.Sprintf("has lost its persistentvolume %q: its data is gone, delete the claim and make it anew", claim.Spec.VolumeName)
	}
	if err != nil {
		return nil, err.Error()
	}
	if !helpers.IsVolumeBoundToClaim(volume, claim) {
		return nil, fmt.Sprintf("is not bound: persistentvolume %q is another claim's", volume.Name)
	}
	if err := helpers.CheckNodeAffinity(volume, s.node.Labels); err != nil {
		return nil, fmt.Sprintf("is bound to persistentvolume %q, which is of another node than %s", volume.Name, s.node.Name)
	}
	return volume, ""
}

// unbound does what a scheduler does for a claim without a volume, and says what it waits for.
func (s *Storage) unbound(ctx context.Context, claim *v1.PersistentVolumeClaim, taken map[string]*v1.PersistentVolume) (string, error) {
	name := helpers.GetPersistentVolumeClaimClass(claim)
	if name == "" {
		return "is not bound: it names no StorageClass, and no PersistentVolume without one fits: create one" + s.orClass(), nil
	}
	class, err := s.classes.Get(name)
	if apierrors.IsNotFound(err) {
		return fmt.Sprintf("is not bound: there is no StorageClass %q: create it%s", name, s.orClass()), nil
	}
	if err != nil {
		return "", err
	}
	if late(class) {
		found, err := s.take(ctx, claim, taken)
		if err != nil || found {
			return "is being bound", err
		}
	}
	switch class.Provisioner {
	case "kubernetes.io/no-provisioner":
		return fmt.Sprintf("is not bound: no PersistentVolume of StorageClass %q fits it, and the class makes none; create one", name), nil
	case Provisioner:
		if why := unfit(claim, class); why != "" {
			return "cannot be provisioned: " + why, nil
		}
	}
	if late(class) && claim.Annotations[helpers.AnnSelectedNode] != s.cfg.Node {
		if err := s.selectNode(ctx, claim); err != nil {
			return "", err
		}
	}
	if class.Provisioner != Provisioner {
		return fmt.Sprintf("is not bound: StorageClass %q is provisioned by %s, which has made no volume for it; see that it runs", name, class.Provisioner), nil
	}
	return "is being provisioned", nil
}

// take gives a claim the smallest volume that fits; false when there is none.
func (s *Storage) take(ctx context.Context, claim *v1.PersistentVolumeClaim, taken map[string]*v1.PersistentVolume) (bool, error) {
	all, err := s.volumes.List(labels.Everything())
	if err != nil {
		return false, err
	}
	found, err := helpers.FindMatchingVolume(claim, all, s.node, taken, true, true)
	if err != nil || found == nil {
		return false, err
	}
	taken[found.Name] = found
	bound, change, err := helpers.GetBindVolumeToClaim(found, claim)
	if err != nil || !change {
		return true, err
	}
	if _, err := s.cfg.Client.CoreV1().PersistentVolumes().Update(ctx, bound, metav1.UpdateOptions{}); err != nil {
		return true, fmt.Errorf("bind persistentvolume %q to claim %s/%s: %w", found.Name, claim.Namespace, claim.Name, err)
	}
	return true, nil
}

// selectNode says that a pod on this node waits for the claim.
func (s *Storage) selectNode(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,"annotations":{%q:%q}}}`, claim.UID, helpers.AnnSelectedNode, s.cfg.Node)
	_, err := s.cfg.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("select the node of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// orClass lists what a claim may ask for instead.
func (s *Storage) orClass() string {
	all, err := s.classes.List(labels.Everything())
	if err != nil || len(all) == 0 {
		return ""
	}
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return ", or make the claim anew with StorageClass " + strings.Join(names, " or ")
}
