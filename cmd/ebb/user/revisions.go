package user

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

// RevisionsCommand is `ebb revisions`.
func RevisionsCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "revisions [NAME]", Aliases: []string{"revision", "rev"}, Short: "List the revisions of a service, or of all, with their share of the traffic",
		Example:           "  ebb revisions hello\n  ebb revisions hello -o wide",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			services := &v1.ServiceList{}
			name := ""
			if len(args) == 1 {
				svc, err := s.service(ctx, args[0])
				if err != nil {
					return err
				}
				name = svc.Name
				services.Items = []v1.Service{*svc}
			} else if err := s.List(ctx, services, inNamespace(s)); err != nil {
				return s.explain(err, "list services")
			}
			revisions, err := s.revisionsOf(ctx, name)
			if err != nil {
				return err
			}
			traffic := map[string]share{}
			for i := range services.Items {
				for revision, part := range shares(services.Items[i].Status.Traffic) {
					traffic[revision] = part
				}
			}
			return s.printRevisions(revisions, traffic, time.Now())
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	return cmd
}

func (s *Session) printRevisions(revisions []v1.Revision, traffic map[string]share, now time.Time) error {
	switch s.Format {
	case output.JSON, output.YAML:
		list := v1.RevisionList{Items: revisions}
		list.SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindRevision + "List"))
		return output.WriteObject(s.Out, s.Format, &list)
	case output.Name:
		for i := range revisions {
			fmt.Fprintf(s.Out, "revision.%s/%s\n", serving.GroupName, revisions[i].Name)
		}
		return nil
	}
	if len(revisions) == 0 {
		fmt.Fprintf(s.Err, "No revisions in namespace %s. Make a service: ebb deploy hello ./examples/hello\n", s.Namespace)
		return nil
	}
	return output.WriteTable(s.Out, s.Format, revisionColumns(traffic, now), revisions)
}

func revisionColumns(traffic map[string]share, now time.Time) []output.Column[v1.Revision] {
	ready := func(r v1.Revision) *v1.Condition { return r.Status.Conditions.Get(v1.ConditionReady) }
	return []output.Column[v1.Revision]{
		{Title: "NAME", Value: func(r v1.Revision) string { return r.Name }},
		{Title: "SERVICE", Value: func(r v1.Revision) string { return r.Labels[serving.ServiceLabel] }},
		{Title: "TRAFFIC", Value: func(r v1.Revision) string { return fmt.Sprintf("%d%%", traffic[r.Name].percent) }},
		{Title: "TAGS", Value: func(r v1.Revision) string { return strings.Join(traffic[r.Name].tags, ",") }},
		{Title: "READY", Value: func(r v1.Revision) string { return readyWord(ready(r)) }},
		{Title: "PODS", Value: func(r v1.Revision) string {
			return count(r.Status.ActualReplicas) + "/" + count(r.Status.DesiredReplicas)
		}},
		{Title: "AGE", Value: func(r v1.Revision) string { return output.Age(r.CreationTimestamp.Time, now) }},
		{Title: "REASON", Value: func(r v1.Revision) string { return why(ready(r)) }},
		{Title: "IMAGE", Wide: true, Value: func(r v1.Revision) string { return image(r.Spec) }},
	}
}
