package user

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/cmd/ebb/output"
)

// explanation is why a revision has the pods it has, and by which settings.
type explanation struct {
	Revision string             `json:"revision"`
	Pods     string             `json:"pods"` // actual/desired
	Reasons  []string           `json:"reasons"`
	Settings []settings.Setting `json:"settings"`
}

// ExplainCommand is `ebb explain`.
func ExplainCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "explain NAME", Short: "Show why each revision of a service has as many pods as it has, and where its settings come from",
		Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			if s.Local == nil {
				return errors.New("explain asks the controller of an `ebb up` on this machine: name its folder with --data DIR")
			}
			if _, err := s.service(cmd.Context(), args[0]); err != nil {
				return err
			}
			revisions, err := s.revisionsOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			all := make([]explanation, 0, len(revisions))
			for _, r := range revisions {
				query := url.Values{"namespace": {r.Namespace}, "revision": {r.Name}}
				text, err := fetch(cmd.Context(), "http://"+s.Local.Controller+"/explain?"+query.Encode())
				if err != nil {
					return fmt.Errorf("ask the controller (`ebb status` shows its state): %w", err)
				}
				e := explanation{Revision: r.Name, Pods: count(r.Status.ActualReplicas) + "/" + count(r.Status.DesiredReplicas)}
				if err := json.Unmarshal(text, &e); err != nil {
					return fmt.Errorf("read the controller's answer: %w", err)
				}
				all = append(all, e)
			}
			if s.Format == output.JSON || s.Format == output.YAML {
				return output.WriteObject(s.Out, s.Format, all)
			}
			for _, e := range all {
				if err := e.write(s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	return cmd
}

// write prints what differs from the defaults; -o wide prints every setting.
func (e explanation) write(s *Session) error {
	fmt.Fprintf(s.Out, "%s, pods %s\n", e.Revision, e.Pods)
	if len(e.Reasons) == 0 {
		fmt.Fprintln(s.Out, "  nothing has been decided about it yet")
	}
	for _, reason := range e.Reasons {
		fmt.Fprintln(s.Out, "  "+reason)
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
