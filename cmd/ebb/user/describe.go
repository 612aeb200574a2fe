package user

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

func inNamespace(s *Session) client.ListOption { return client.InNamespace(s.Namespace) }

// DescribeCommand is `ebb describe`.
func DescribeCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "describe NAME", Short: "Show a service, its conditions, revisions and pods",
		Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			svc, err := s.service(ctx, args[0])
			if err != nil {
				return err
			}
			switch s.Format {
			case output.JSON, output.YAML:
				return output.WriteObject(s.Out, s.Format, svc)
			case output.Name:
				fmt.Fprintf(s.Out, "service.%s/%s\n", serving.GroupName, svc.Name)
				return nil
			}
			revisions, err := s.revisionsOf(ctx, svc.Name)
			if err != nil {
				return err
			}
			var pods corev1.PodList
			if err := s.List(ctx, &pods, inNamespace(s), ofService(svc.Name)); err != nil {
				return s.explain(err, "list pods")
			}
			return s.printDescription(svc, revisions, pods.Items, time.Now())
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	return cmd
}

func (s *Session) printDescription(svc *v1.Service, revisions []v1.Revision, pods []corev1.Pod, now time.Time) error {
	address := ""
	if svc.Status.Address != nil {
		address = svc.Status.Address.URL
	}
	var annotations []string
	for key, value := range svc.Spec.Template.Annotations {
		annotations = append(annotations, key+"="+value)
	}
	slices.Sort(annotations)
	var env []string
	if c := svc.Spec.Template.Spec.Containers; len(c) > 0 {
		for _, e := range c[0].Env {
			if e.ValueFrom != nil {
				env = append(env, e.Name+" (from a reference)")
				continue
			}
			env = append(env, e.Name+"="+e.Value)
		}
	}
	err := output.WriteFields(s.Out, [][2]string{
		{"Name", svc.Name},
		{"Namespace", svc.Namespace},
		{"Age", output.Age(svc.CreationTimestamp.Time, now)},
		{"URL", svc.Status.URL},
		{"In the cluster", address},
		{"Image", image(svc.Spec.Template.Spec)},
		{"Env", strings.Join(env, "\n")},
		{"Annotations", strings.Join(annotations, "\n")},
		{"Creator", svc.Annotations[serving.CreatorAnnotation]},
	})
	if err != nil {
		return err
	}
	if len(svc.Status.Conditions) > 0 {
		fmt.Fprintln(s.Out)
		if err := output.WriteTable(s.Out, s.Format, []output.Column[v1.Condition]{
			{Title: "CONDITION", Value: func(c v1.Condition) string { return c.Type }},
			{Title: "STATUS", Value: func(c v1.Condition) string { return string(c.Status) }},
			{Title: "SINCE", Value: func(c v1.Condition) string { return output.Age(c.LastTransitionTime.Time, now) }},
			{Title: "REASON", Value: func(c v1.Condition) string { return why(&c) }},
		}, svc.Status.Conditions); err != nil {
			return err
		}
	}
	if len(revisions) > 0 {
		fmt.Fprintln(s.Out)
		if err := output.WriteTable(s.Out, s.Format, revisionColumns(shares(svc.Status.Traffic), now), revisions); err != nil {
			return err
		}
	}
	if len(pods) > 0 {
		slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
		fmt.Fprintln(s.Out)
		return output.WriteTable(s.Out, s.Format, podColumns(now), pods)
	}
	return nil
}

func podColumns(now time.Time) []output.Column[corev1.Pod] {
	return []output.Column[corev1.Pod]{
		{Title: "POD", Value: func(p corev1.Pod) string { return p.Name }},
		{Title: "READY", Value: func(p corev1.Pod) string {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady {
					return string(c.Status)
				}
			}
			return "Unknown"
		}},
		{Title: "STATUS", Value: podState},
		{Title: "RESTARTS", Value: func(p corev1.Pod) string {
			restarts := int32(0)
			for _, c := range p.Status.ContainerStatuses {
				restarts += c.RestartCount
			}
			return fmt.Sprint(restarts)
		}},
		{Title: "AGE", Value: func(p corev1.Pod) string { return output.Age(p.CreationTimestamp.Time, now) }},
		{Title: "IP", Wide: true, Value: func(p corev1.Pod) string { return p.Status.PodIP }},
	}
}

// podState is the most telling word on a pod: why a container waits or ended, else the phase.
func podState(p corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return w.Reason
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("%s (exit code %d)", t.Reason, t.ExitCode)
		}
	}
	return string(p.Status.Phase)
}
