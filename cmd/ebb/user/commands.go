package user

import "github.com/spf13/cobra"

// Commands of this package, in the order of the help.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		DeployCommand(), ListCommand(), DescribeCommand(), RevisionsCommand(), TrafficCommand(), LogsCommand(), ExplainCommand(), DeleteCommand(), StatusCommand(), ImageCommand(),
	}
}

// EventCommands are those of brokers, triggers, sources and events.
func EventCommands() []*cobra.Command {
	return []*cobra.Command{BrokerCommand(), TriggerCommand(), SourceCommand(), EventsCommand()}
}

// showHelp is what a command does that only has others below it.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }
