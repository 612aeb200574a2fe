package revision

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/controllers/apply"
)

// DryRun asks the API server whether it would take a pod as a Revision's Deployment would
// make it: quotas, limit ranges, pod security and other webhooks have their say. It is
// one request, and nothing is stored.
func DryRun(c client.Client, store *settings.Store) admission.DryRun {
	return func(ctx context.Context, rev *v1.Revision) error {
		template := makeDeployment(rev, store.Load(), "").Spec.Template
		pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		pod.Namespace, pod.GenerateName = rev.Namespace, "dry-run-"
		// The label would put it among the pods of some Revision.
		pod.Labels = rev.Labels
		err := c.Create(ctx, pod, client.DryRunAll)
		switch {
		case err == nil:
			return nil
		case apply.Refused(err) && !withoutDryRun(err):
			return err
		}
		return fmt.Errorf("%w: %w", admission.ErrNoAnswer, err)
	}
}

// withoutDryRun says whether another webhook on pods cannot be asked without effect.
func withoutDryRun(err error) bool { return strings.Contains(err.Error(), "does not support dry run") }
