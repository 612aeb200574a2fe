package user

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// DeleteCommand is `ebb delete`.
func DeleteCommand() *cobra.Command {
	var f Flags
	var waitGone bool
	cmd := &cobra.Command{
		Use: "delete NAME…", Aliases: []string{"rm"}, Short: "Delete services with their revisions and pods",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return f.completeServices(cmd, nil, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				if err := s.deleteService(cmd.Context(), name, waitGone); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(s.Out, "service %q deleted\n", name)
			}
			return errors.Join(errs...)
		},
	}
	f.Add(cmd)
	cmd.Flags().BoolVar(&waitGone, "wait", false, "wait until its revisions and pods are gone")
	return cmd
}

func (s *Session) deleteService(ctx context.Context, name string, waitGone bool) error {
	svc, err := s.service(ctx, name)
	if err != nil {
		return err
	}
	propagation := metav1.DeletePropagationBackground
	if waitGone {
		propagation = metav1.DeletePropagationForeground
	}
	if err := s.Delete(ctx, svc, &client.DeleteOptions{PropagationPolicy: &propagation}); err != nil || !waitGone {
		return s.explain(err, fmt.Sprintf("delete service %q", name))
	}
	return wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := s.Get(ctx, client.ObjectKeyFromObject(svc), &v1.Service{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}
