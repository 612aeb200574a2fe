package user

import (
	"fmt"
	"time"

	"ebb.dev/ebb/autoscaler/coldstart"
	"ebb.dev/ebb/cmd/ebb/output"
)

// lastStart is where the time of a revision's last start from zero went.
type lastStart struct {
	At       time.Time        `json:"at"`
	Parts    []coldstart.Part `json:"parts"`
	Complete bool             `json:"complete"`
	Coarse   bool             `json:"coarse,omitempty"`
}

// meaning of the steps, for people.
var meaning = map[string]string{
	"scaled":    "the Deployment's scale written",
	"created":   "a pod made",
	"scheduled": "given to a node",
	"pulled":    "its images there",
	"started":   "its containers run",
	"probed":    "it answers its probe",
	"forwarded": "the first request on its way to it",
}

func (l *lastStart) write(s *Session, now time.Time) error {
	if l == nil {
		return nil
	}
	total := "not over"
	if n := len(l.Parts); l.Complete && n > 0 {
		total = milliseconds(l.Parts[n-1].Since)
	}
	fmt.Fprintf(s.Out, "last start from zero, %s ago: %s\n", output.Age(l.At, now), total)
	if err := output.WriteTable(s.Out, s.Format, []output.Column[coldstart.Part]{
		{Title: "STEP", Value: func(p coldstart.Part) string { return p.Step }},
		{Title: "TOOK", Value: func(p coldstart.Part) string { return milliseconds(p.Took) }},
		{Title: "SINCE", Value: func(p coldstart.Part) string { return milliseconds(p.Since) }},
		{Title: "UNTIL", Value: func(p coldstart.Part) string { return meaning[p.Step] }},
	}, l.Parts); err != nil {
		return err
	}
	if l.Coarse {
		fmt.Fprintln(s.Out, "  Kubernetes tells a pod's steps in whole seconds: they count from when the controller heard of them, and the pull is part of \"started\"")
	}
	return nil
}

func milliseconds(v float64) string { return fmt.Sprintf("%.1f ms", v) }
