// Command ebb is the one binary of Ebb: the platform's parts (`ebb controller`,
// `ebb activator`), the embedded platform (`ebb up`, `ebb demo`) and the commands of
// its users (`ebb deploy`, `ebb list`, …).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/cmd/ebb/demo"
	"ebb.dev/ebb/cmd/ebb/gateway"
	"ebb.dev/ebb/cmd/ebb/install"
	"ebb.dev/ebb/cmd/ebb/serve"
	"ebb.dev/ebb/cmd/ebb/up"
	"ebb.dev/ebb/cmd/ebb/user"
)

// version is stamped by the build.
var version = "dev"

func main() {
	err := root().ExecuteContext(context.Background())
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "ebb",
		Short:         "Serverless on a service mesh: revisions, scale from and to zero, rollouts by percent",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	const use, events, local, cluster, parts = "use", "events", "local", "cluster", "parts"
	cmd.AddGroup(
		&cobra.Group{ID: use, Title: "Services:"},
		&cobra.Group{ID: events, Title: "Events:"},
		&cobra.Group{ID: local, Title: "A platform on this machine:"},
		&cobra.Group{ID: cluster, Title: "A platform on a cluster:"},
		&cobra.Group{ID: parts, Title: "Parts of a platform, started by it:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			cmd.AddCommand(c)
		}
	}
	add(use, user.Commands()...)
	add(use, user.VersionCommand(version))
	add(events, user.EventCommands()...)
	add(local, up.Command(), demo.Command(), up.EnvoyCommand())
	add(cluster, install.Command(user.BuildVersion(version).Ebb), install.UninstallCommand())
	add(parts, untilSignal(serve.ControllerCommand(user.BuildVersion(version).Ebb)), untilSignal(serve.ActivatorCommand()), untilSignal(serve.EventingCommand()), untilSignal(serve.NATSCommand()), untilSignal(gateway.Command()))
	sayUsage(cmd)
	return cmd
}

// sayUsage makes errors in flags and arguments end with how the command is used.
func sayUsage(cmd *cobra.Command) {
	hint := func(c *cobra.Command, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%w\n  usage: %s\n  `%s --help` shows more", err, c.UseLine(), c.CommandPath())
	}
	cmd.SetFlagErrorFunc(hint)
	var all func(*cobra.Command)
	all = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if check := c.Args; check != nil {
				c.Args = func(c *cobra.Command, args []string) error { return hint(c, check(c, args)) }
			}
			all(c)
		}
	}
	all(cmd)
}

// untilSignal gives a command that runs until it is told to end a context for that.
// (`ebb up` counts signals itself; the others just die of them.)
func untilSignal(cmd *cobra.Command) *cobra.Command {
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		ctx, _ := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM) //nolint:govet // it lasts as long as the process
		cmd.SetContext(ctx)
	}
	return cmd
}
