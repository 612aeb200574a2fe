package user

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/cmd/ebb/output"
	"ebb.dev/ebb/eventing/inspect"
)

// letterFlags say which dead letters are meant.
type letterFlags struct {
	trigger  string
	sequence uint64
}

func (l *letterFlags) add(cmd *cobra.Command, f *Flags) {
	cmd.Flags().StringVar(&l.trigger, "trigger", "", "only those of this `TRIGGER`")
	cmd.Flags().Uint64Var(&l.sequence, "sequence", 0, "only the one with this `NUMBER`, as list shows it")
	_ = cmd.RegisterFlagCompletionFunc("trigger", completeNames(f, triggers()))
}

// letters are the dead letters of a broker that the flags mean, delivered again if that is wished for.
func (s *Session) letters(ctx context.Context, broker string, l letterFlags, redeliver bool) ([]inspect.Letter, error) {
	topic, err := s.topicOf(ctx, broker)
	if err != nil {
		return nil, err
	}
	place, err := s.placeOf(ctx, broker, l.trigger)
	if err != nil {
		return nil, err
	}
	c, closed, err := s.inspector(ctx)
	if err != nil {
		return nil, err
	}
	defer closed()
	var all []inspect.Letter
	err = c.DeadLetters(ctx, topic, place, l.sequence, redeliver, func(l inspect.Letter) error {
		all = append(all, l)
		return nil
	})
	if err != nil {
		return all, fmt.Errorf("dead letters of broker %q: %w", broker, err)
	}
	if l.sequence > 0 && len(all) == 0 {
		return nil, fmt.Errorf("broker %q has no dead letter %d: `ebb events dead-letters list %s` shows them", broker, l.sequence, broker)
	}
	return all, nil
}

func deadLettersList() *cobra.Command {
	var f Flags
	var l letterFlags
	cmd := &cobra.Command{
		Use: "list BROKER", Aliases: []string{"ls"}, Short: "List a broker's events that could not be delivered and that are kept", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNames(&f, brokers()),
		Example: "  ebb events dead-letters list default\n  ebb events dead-letters list default --trigger orders -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			all, err := s.letters(cmd.Context(), args[0], l, false)
			if err != nil {
				return err
			}
			return s.printLetters(args[0], all, time.Now())
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	l.add(cmd, &f)
	return cmd
}

func (s *Session) printLetters(broker string, all []inspect.Letter, now time.Time) error {
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, all)
	case output.Name:
		for _, l := range all {
			fmt.Fprintln(s.Out, l.Sequence)
		}
		return nil
	}
	if len(all) == 0 {
		fmt.Fprintf(s.Err, "No dead letters are kept for broker %s.\n", broker)
		return nil
	}
	return output.WriteTable(s.Out, s.Format, []output.Column[inspect.Letter]{
		{Title: "SEQUENCE", Value: func(l inspect.Letter) string { return strconv.FormatUint(l.Sequence, 10) }},
		{Title: "AGE", Value: func(l inspect.Letter) string { return output.Age(l.Time, now) }},
		{Title: "TRIGGER", Value: func(l inspect.Letter) string { return l.Name }},
		{Title: "TYPE", Value: func(l inspect.Letter) string { return l.Event.Type }},
		{Title: "ID", Value: func(l inspect.Letter) string { return l.Event.ID }},
		{Title: "CODE", Value: func(l inspect.Letter) string { return strconv.Itoa(l.Code) }},
		{Title: "ANSWER", Value: func(l inspect.Letter) string { return l.Answer }},
		{Title: "DESTINATION", Wide: true, Value: func(l inspect.Letter) string { return l.Destination }},
		{Title: "SOURCE", Wide: true, Value: func(l inspect.Letter) string { return l.Event.Source }},
		{Title: "DATA", Wide: true, Value: func(l inspect.Letter) string { return oneLineOf(l.Event) }},
	}, all)
}

func deadLettersRedeliver() *cobra.Command {
	var f Flags
	var l letterFlags
	cmd := &cobra.Command{
		Use: "redeliver BROKER", Short: "Deliver dead letters again, each to the trigger that it could not be delivered for", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNames(&f, brokers()),
		Long: `Deliver dead letters again, each to the trigger that it could not be delivered for.

A letter stays in the list until it is too old. What cannot be delivered this time either is a new one.`,
		Example: "  ebb events dead-letters redeliver default --trigger orders\n  ebb events dead-letters redeliver default --sequence 12",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			all, err := s.letters(cmd.Context(), args[0], l, true)
			if s.Format == output.JSON || s.Format == output.YAML {
				if e := output.WriteObject(s.Out, s.Format, all); e != nil {
					return e
				}
			}
			errs, done := []error{err}, 0
			for _, l := range all {
				if l.Error != "" {
					errs = append(errs, fmt.Errorf("dead letter %d: %s", l.Sequence, l.Error))
					continue
				}
				done++
				if s.Format == output.Name {
					fmt.Fprintln(s.Out, l.Sequence)
				}
			}
			if s.Format == output.Table || s.Format == output.Wide {
				fmt.Fprintf(s.Out, "%d of %d dead letters are delivered again\n", done, len(all))
			}
			return errors.Join(errs...)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	l.add(cmd, &f)
	return cmd
}
