package user

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

// ListCommand is `ebb list`.
func ListCommand() *cobra.Command {
	var f Flags
	var everywhere bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls", "get"}, Short: "List services",
		Example: "  ebb list\n  ebb list -A -o wide",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("it lists all services and takes no name: `ebb describe %s` shows one", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			if everywhere {
				s.Namespace = ""
			}
			var list v1.ServiceList
			if err := s.List(cmd.Context(), &list, client.InNamespace(s.Namespace)); err != nil {
				return s.explain(err, "list services")
			}
			slices.SortFunc(list.Items, func(a, b v1.Service) int {
				return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
			})
			for i := range list.Items {
				list.Items[i].SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindService))
			}
			list.SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindService + "List"))
			return s.printServices(&list, everywhere, time.Now())
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "services of all namespaces")
	return cmd
}

func (s *Session) printServices(list *v1.ServiceList, everywhere bool, now time.Time) error {
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, list)
	case output.Name:
		for i := range list.Items {
			fmt.Fprintf(s.Out, "service.%s/%s\n", serving.GroupName, list.Items[i].Name)
		}
		return nil
	}
	if len(list.Items) == 0 {
		where := "in namespace " + s.Namespace
		if everywhere {
			where = "in any namespace"
		}
		fmt.Fprintf(s.Err, "No services %s. Make one: ebb deploy hello ./examples/hello\n", where)
		return nil
	}
	ready := func(i v1.Service) *v1.Condition { return i.Status.Conditions.Get(v1.ConditionReady) }
	columns := []output.Column[v1.Service]{
		{Title: "NAME", Value: func(i v1.Service) string { return i.Name }},
		{Title: "URL", Value: func(i v1.Service) string { return i.Status.URL }},
		{Title: "LATEST", Value: func(i v1.Service) string { return i.Status.LatestReadyRevisionName }},
		{Title: "READY", Value: func(i v1.Service) string { return readyWord(ready(i)) }},
		{Title: "AGE", Value: func(i v1.Service) string { return output.Age(i.CreationTimestamp.Time, now) }},
		{Title: "TRAFFIC", Wide: true, Value: func(i v1.Service) string { return describeTraffic(i.Status.Traffic) }},
		{Title: "IMAGE", Wide: true, Value: func(i v1.Service) string { return image(i.Spec.Template.Spec) }},
		{Title: "REASON", Value: func(i v1.Service) string { return why(ready(i)) }},
	}
	if !slices.ContainsFunc(list.Items, func(i v1.Service) bool { return why(ready(i)) != "" }) {
		columns = columns[:len(columns)-1]
	}
	if everywhere {
		columns = slices.Insert(columns, 0, output.Column[v1.Service]{Title: "NAMESPACE", Value: func(i v1.Service) string { return i.Namespace }})
	}
	return output.WriteTable(s.Out, s.Format, columns, list.Items)
}
