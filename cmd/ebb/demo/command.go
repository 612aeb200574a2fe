package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/cmd/ebb/up"
)

// Command is `ebb demo`.
func Command() *cobra.Command {
	o := up.Options{ThrowAway: true}
	var example string
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Do the whole main job once on a platform of its own, checked and timed",
		Long:  "Start a platform in a temporary folder on free ports, take a service from zero through a split, a rollback and load back to zero, and end it.\nThe exit code is 0 only if every step held.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			if _, err := os.Stat(example); err != nil {
				return fmt.Errorf("the example to deploy: %w (run this in the repository, or give --example ./FOLDER)", err)
			}
			data, err := os.MkdirTemp("", "ebb-demo-")
			if err != nil {
				return err
			}
			o.Data = filepath.Join(data, "data")
			ctx, now, release := up.Interrupts(cmd.Context(), func() { fmt.Fprintln(o.Out, "\nstopping (Ctrl-C again: at once)") })
			defer release()
			defer func() {
				if !keep {
					_ = os.RemoveAll(data)
				}
			}()
			err = run(ctx, o, example, now)
			if errors.Is(err, up.ErrInterrupted) {
				return errors.New("interrupted")
			}
			if err != nil && keep {
				return fmt.Errorf("%w (logs in %s)", err, o.Data)
			}
			return err
		},
	}
	up.AddFlags(cmd, &o)
	cmd.Flags().StringVar(&example, "example", "./examples/hello", "`FOLDER` of the Go package to deploy")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the temporary folder with its logs")
	return cmd
}
