package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/cmd/ebb/up"
	"ebb.dev/ebb/config"
	objects "ebb.dev/ebb/config/install"
)

// UninstallCommand is `ebb uninstall`.
func UninstallCommand() *cobra.Command {
	var a access
	var all bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove Ebb from a Kubernetes cluster",
		Long: "Remove Ebb from the cluster of the kubeconfig, and leave nothing: its kinds and the namespace ebb-system go too.\n" +
			"While there are Services or other objects of its kinds it refuses; --all deletes those first, with all their pods.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			f := flags{timeout: timeout}
			ctx, stop := f.bounded(cmd.Context())
			defer stop()
			i := &installer{Client: c, say: up.NewProgress(cmd.OutOrStdout()), wait: true}
			return i.uninstall(ctx, all)
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "delete all Services and other objects of Ebb's kinds, in all namespaces, too")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long all of it may take")
	return cmd
}

func (i *installer) uninstall(ctx context.Context, all bool) error {
	list, err := i.inventory(ctx)
	if err != nil {
		return err
	}
	stages, err := objects.Stages(objects.Default())
	if err != nil {
		return err
	}
	// What this version has is removed whoever installed it, kubectl or an older one.
	list = inventoryOf(i.version, stages).with(list)
	there, err := i.of(ctx)
	if err != nil {
		return err
	}
	if len(there) > 0 && !all {
		return fmt.Errorf("there are still objects of Ebb's kinds, which would go with them: %s: delete them (`kubectl get ksvc -A`), or use --all", summary(there))
	}
	if err := i.deleteAll(ctx, there); err != nil {
		return err
	}
	// What runs goes in the order against the installation's, the kinds and the namespace last.
	var last []reference
	for _, r := range slices.Backward(list.Objects) {
		if r.Kind == kindOfKinds.Kind || r.Kind == "Namespace" {
			last = append(last, r)
			continue
		}
		if err := i.gone(ctx, r); err != nil {
			return err
		}
	}
	i.say.Line("its parts, rights and settings are removed")
	for _, r := range last {
		if err := i.gone(ctx, r); err != nil {
			return err
		}
	}
	i.say.Line("Ebb is removed")
	return nil
}

// of are the users' objects of Ebb's kinds, by kind, those first that others are made of.
func (i *installer) of(ctx context.Context) ([]unstructured.UnstructuredList, error) {
	kinds, err := config.CRDs()
	if err != nil {
		return nil, err
	}
	order := []string{"DomainMapping", "Service", "Route", "Configuration", "Revision"}
	rank := func(kind string) int {
		if n := slices.Index(order, kind); n >= 0 {
			return n
		}
		return len(order)
	}
	var found []unstructured.UnstructuredList
	for _, crd := range kinds {
		list := unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: crd.Spec.Group, Version: crd.Spec.Versions[0].Name, Kind: crd.Spec.Names.Kind + "List"})
		err := i.List(ctx, &list)
		if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, explain(err, "list "+crd.Name)
		}
		if len(list.Items) > 0 {
			found = append(found, list)
		}
	}
	slices.SortStableFunc(found, func(a, b unstructured.UnstructuredList) int {
		return rank(a.Items[0].GetKind()) - rank(b.Items[0].GetKind())
	})
	return found, nil
}

func summary(lists []unstructured.UnstructuredList) string {
	var parts []string
	for _, list := range lists {
		o := list.Items[0]
		name := strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/")
		text := fmt.Sprintf("%d of kind %s (%s", len(list.Items), o.GetKind(), name)
		if len(list.Items) > 1 {
			text += ", …"
		}
		parts = append(parts, text+")")
	}
	return strings.Join(parts, ", ")
}

// deleteAll deletes objects with all that belongs to them, and waits for it while the controller still runs.
func (i *installer) deleteAll(ctx context.Context, lists []unstructured.UnstructuredList) error {
	foreground := metav1.DeletePropagationForeground
	for _, list := range lists {
		for n := range list.Items {
			if err := i.Delete(ctx, &list.Items[n], &client.DeleteOptions{PropagationPolicy: &foreground}); client.IgnoreNotFound(err) != nil {
				return explain(err, "delete "+describe(list.Items[n].GroupVersionKind(), &list.Items[n]))
			}
		}
		i.say.Line("deleted %d objects of kind %s", len(list.Items), list.Items[0].GetKind())
	}
	left := ""
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		there, err := i.of(ctx)
		if err != nil {
			return false, err
		}
		left = summary(there)
		if err := i.letGo(ctx, there); err != nil {
			return false, err
		}
		return len(there) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait until they are gone: %w: still there: %s (`kubectl get -A ksvc,revisions -o yaml` shows what they wait for, such as finalizers)", err, left)
	}
	return nil
}

// letGo takes the store's finalizer off objects that are deleted, where no eventing part runs that would: what they have in
// Ebb's own store goes with its volume.
func (i *installer) letGo(ctx context.Context, lists []unstructured.UnstructuredList) error {
	var d appsv1.Deployment
	err := i.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: objects.EventingName}, &d)
	if client.IgnoreNotFound(err) != nil {
		return explain(err, "look for the eventing part")
	}
	if err == nil && d.Status.AvailableReplicas > 0 {
		return nil
	}
	count := 0
	for n := range lists {
		for m := range lists[n].Items {
			o := &lists[n].Items[m]
			if o.GetDeletionTimestamp() == nil || !slices.Contains(o.GetFinalizers(), eventing.Finalizer) {
				continue
			}
			before := o.DeepCopy()
			o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(f string) bool { return f == eventing.Finalizer }))
			err := i.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				continue // it is looked at again
			}
			if err != nil && strings.Contains(err.Error(), "failed calling webhook") {
				return i.unhook(ctx) // no controller runs either; it is looked at again
			}
			if err != nil {
				return explain(err, "take the finalizer off "+describe(o.GroupVersionKind(), o))
			}
			count++
		}
	}
	if count > 0 {
		i.say.Line("no eventing part runs: %d objects of eventing go without it; what they have in a NATS cluster of yours stays there", count)
	}
	return nil
}

// unhook has the kube-apiserver ask nobody: what would be asked is not there.
func (i *installer) unhook(ctx context.Context) error {
	for kind, name := range map[string]string{"MutatingWebhookConfiguration": admission.MutatingName, "ValidatingWebhookConfiguration": admission.ValidatingName} {
		if err := i.gone(ctx, reference{Group: admissionregistration.GroupName, Version: "v1", Kind: kind, Name: name}); err != nil {
			return err
		}
	}
	i.say.Line("no controller runs: its admission is removed first")
	return nil
}

// gone deletes an object with what belongs to it and waits until it is no more.
func (i *installer) gone(ctx context.Context, r reference) error {
	o, foreground := r.object(), metav1.DeletePropagationForeground
	what := describe(o.GroupVersionKind(), o)
	err := i.Delete(ctx, o, &client.DeleteOptions{PropagationPolicy: &foreground})
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return explain(err, "remove "+what)
	}
	err = wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		err := i.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		why, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		return fmt.Errorf("remove %s: %w: it is still there; finalizers %v, conditions %v; `ebb uninstall` goes on where it was", what, err, o.GetFinalizers(), why)
	}
	return nil
}
