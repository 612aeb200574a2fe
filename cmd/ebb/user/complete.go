package user

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

const completionTime = 2 * time.Second

// completeServices offers the names of services for the first argument.
func (f *Flags) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.complete(cmd, func(ctx context.Context, s *Session) []string {
		var list v1.ServiceList
		if s.List(ctx, &list, client.InNamespace(s.Namespace)) != nil {
			return nil
		}
		var names []string
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	})
}

// completeTraffic offers a service, then REVISION= for each of its revisions.
func (f *Flags) completeTraffic(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return f.completeServices(cmd, args, typed)
	}
	names, directive := f.complete(cmd, func(ctx context.Context, s *Session) []string {
		revisions, err := s.revisionsOf(ctx, args[0])
		if err != nil {
			return nil
		}
		names := []string{"@latest="}
		for _, r := range revisions {
			names = append(names, r.Name+"=")
		}
		return names
	})
	return names, directive | cobra.ShellCompDirectiveNoSpace
}

func (f *Flags) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return f.complete(cmd, func(ctx context.Context, s *Session) []string {
		var list corev1.NamespaceList
		if s.List(ctx, &list) != nil {
			return nil
		}
		var names []string
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	})
}

func (f *Flags) complete(cmd *cobra.Command, find func(context.Context, *Session) []string) ([]string, cobra.ShellCompDirective) {
	s, err := f.Connect(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	return find(ctx, s), cobra.ShellCompDirectiveNoFileComp
}

func ofService(name string) client.MatchingLabels {
	return client.MatchingLabels{serving.ServiceLabel: strings.TrimSpace(name)}
}
