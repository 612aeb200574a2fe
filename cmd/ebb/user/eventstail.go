package user

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/cmd/ebb/output"
	cloudevent "ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/inspect"
)

func eventsTail() *cobra.Command {
	var f Flags
	var filters []string
	var since time.Duration
	var count int
	cmd := &cobra.Command{
		Use: "tail BROKER", Short: "Show a broker's events as they come", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNames(&f, brokers()),
		Long: `Show a broker's events as they come.

It reads the store and takes nothing away from triggers. With --since it begins with those that the store
still has: an event goes once all triggers have it.`,
		Example: "  ebb events tail default\n  ebb events tail default --filter type=order --since 10m -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			if s.Format == output.YAML || s.Format == output.Name {
				return fmt.Errorf("-o %s is not a format of this command: use json, which prints an event a line, or wide", s.Format)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			var from time.Time
			if since > 0 {
				from = time.Now().Add(-since)
			}
			err = s.tail(ctx, args[0], filters, from, count)
			if ctx.Err() != nil && cmd.Context().Err() == nil {
				return nil // told to end
			}
			return err
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	p := cmd.Flags()
	p.StringArrayVarP(&filters, "filter", "f", nil, "`ATTRIBUTE=VALUE` that events have to have; may be given again, all have to hold; an empty value is any value")
	p.DurationVar(&since, "since", 0, "begin with what the store has of the last `DURATION`, like 10m")
	p.IntVar(&count, "count", 0, "end after so many events; 0: never")
	return cmd
}

// enough ends a tail.
type enough struct{}

func (enough) Error() string { return "enough events" }

func (s *Session) tail(ctx context.Context, broker string, filters []string, since time.Time, count int) error {
	topic, err := s.topicOf(ctx, broker)
	if err != nil {
		return err
	}
	c, closed, err := s.inspector(ctx)
	if err != nil {
		return err
	}
	defer closed()
	fmt.Fprintf(s.Err, "Events of broker %s; Ctrl-C ends it.\n", broker)
	seen := 0
	err = c.Tail(ctx, topic, filters, since, func(e inspect.Stored) error {
		if err := s.printEvent(e); err != nil {
			return err
		}
		if seen++; count > 0 && seen >= count {
			return enough{}
		}
		return nil
	})
	if _, is := err.(enough); is || err == nil && count > 0 && seen >= count { //nolint:errorlint // it is returned as it is
		return nil
	}
	if err == nil && ctx.Err() == nil {
		return fmt.Errorf("tail of broker %q: the eventing part ended it; `ebb status` shows whether it runs", broker)
	}
	return err
}

func (s *Session) printEvent(e inspect.Stored) error {
	if s.Format == output.JSON {
		text, err := json.Marshal(e.Event)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, string(text))
		return err
	}
	line := fmt.Sprintf("%s  %s  %s  %s", e.Time.Local().Format("15:04:05.000"), e.Event.Type, e.Event.Source, e.Event.ID)
	if e.Event.Subject != "" {
		line += "  " + e.Event.Subject
	}
	if s.Format == output.Wide {
		line += extensionsText(e.Event)
	}
	if data := oneLineOf(e.Event); data != "" {
		line += "  " + data
	}
	_, err := fmt.Fprintln(s.Out, line)
	return err
}

func extensionsText(e *cloudevent.Event) string {
	var parts []string
	for _, a := range e.Extensions {
		parts = append(parts, a.Name+"="+a.Value)
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, ",")
}
