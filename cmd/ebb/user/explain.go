package user

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/cmd/ebb/output"
)

// explanation answers, of a Service: why is it not ready, why has each revision the pods
// it has, and where did the time of its last start go.
type explanation struct {
	Service   string                `json:"service"`
	State     cause                 `json:"state"`
	Revisions []revisionExplanation `json:"revisions"`
	// Unasked is why the controller could not be asked; "" when it was.
	Unasked string `json:"unasked,omitempty"`
}

type revisionExplanation struct {
	Revision  string             `json:"revision"`
	Pods      string             `json:"pods"` // actual/desired
	Reasons   []string           `json:"reasons"`
	Settings  []settings.Setting `json:"settings"`
	LastStart *lastStart         `json:"lastStart,omitempty"`
}

// ExplainCommand is `ebb explain`.
func ExplainCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "explain NAME", Short: "Show why a service is not ready, why it has as many pods as it has, and where the time of its last start from zero went",
		Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			return s.Explain(cmd.Context(), args[0])
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	return cmd
}

// Explain prints what `ebb explain` does. Where the controller cannot be asked it says so and
// prints the rest.
func (s *Session) Explain(ctx context.Context, name string) error {
	svc, err := s.service(ctx, name)
	if err != nil {
		return err
	}
	revisions, err := s.revisionsOf(ctx, name)
	if err != nil {
		return err
	}
	e, err := s.gather(ctx, svc, revisions)
	if err != nil {
		return err
	}
	x := explanation{Service: name, State: findCause(e)}
	for i := range revisions {
		one := revisionExplanation{Revision: revisions[i].Name, Pods: count(revisions[i].Status.ActualReplicas) + "/" + count(revisions[i].Status.DesiredReplicas)}
		if x.Unasked == "" {
			if err := s.askAbout(ctx, &revisions[i], &one); err != nil {
				x.Unasked = err.Error()
			}
		}
		x.Revisions = append(x.Revisions, one)
	}
	return s.printExplanation(&x, time.Now())
}

func (s *Session) askAbout(ctx context.Context, r *v1.Revision, into *revisionExplanation) error {
	text, err := s.ask(ctx, "/explain", url.Values{"namespace": {r.Namespace}, "revision": {r.Name}})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the controller's answer: %w", err)
	}
	return nil
}

func (s *Session) printExplanation(x *explanation, now time.Time) error {
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, x)
	case output.Name:
		for i := range x.Revisions {
			fmt.Fprintf(s.Out, "revision.%s/%s\n", serving.GroupName, x.Revisions[i].Revision)
		}
		return nil
	}
	x.State.write(s, x.Service)
	for i := range x.Revisions {
		if err := x.Revisions[i].write(s, x.Unasked == "", now); err != nil {
			return err
		}
	}
	if x.Unasked != "" {
		fmt.Fprintf(s.Out, "\nthe controller was not asked why the revisions have these pods: %s\n", x.Unasked)
	}
	return nil
}

func (c *cause) write(s *Session, service string) {
	switch {
	case c.Ready && len(c.Chain) == 0:
		fmt.Fprintf(s.Out, "%s is ready\n", service)
		return
	case c.Ready:
		fmt.Fprintf(s.Out, "%s is ready, but\n", service)
	default:
		fmt.Fprintf(s.Out, "%s is not ready\n", service)
	}
	for _, f := range c.Chain[:len(c.Chain)-1] {
		fmt.Fprintf(s.Out, "  %s: %s\n", f.Object, output.OneLine(f.String()))
	}
	last := c.Chain[len(c.Chain)-1]
	fmt.Fprintf(s.Out, "  cause: %s: %s\n  next: %s\n", last.Object, last, c.Next)
}

// write prints what differs from the defaults; -o wide prints every setting.
func (e *revisionExplanation) write(s *Session, asked bool, now time.Time) error {
	fmt.Fprintf(s.Out, "\n%s, pods %s\n", e.Revision, e.Pods)
	if !asked {
		return nil
	}
	if len(e.Reasons) == 0 {
		fmt.Fprintln(s.Out, "  nothing has been decided about it yet")
	}
	for _, reason := range e.Reasons {
		fmt.Fprintln(s.Out, "  "+reason)
	}
	if err := e.LastStart.write(s, now); err != nil {
		return err
	}
	var rows []settings.Setting
	for _, one := range e.Settings {
		if s.Format == output.Wide || one.From != "default" || one.Note != "" {
			rows = append(rows, one)
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(s.Out, "  every setting has its default (-o wide shows them)")
		return nil
	}
	return output.WriteTable(s.Out, s.Format, []output.Column[settings.Setting]{
		{Title: "SETTING", Value: func(one settings.Setting) string { return one.Name }},
		{Title: "VALUE", Value: func(one settings.Setting) string { return one.Value }},
		{Title: "FROM", Value: func(one settings.Setting) string { return one.From }},
		{Title: "KEY", Value: func(one settings.Setting) string { return one.Key }},
		{Title: "NOTE", Value: func(one settings.Setting) string { return one.Note }},
	}, rows)
}
