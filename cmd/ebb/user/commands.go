package user

import "github.com/spf13/cobra"

// Commands of this package, in the order of the help.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		DeployCommand(), ListCommand(), DescribeCommand(), RevisionsCommand(), TrafficCommand(), LogsCommand(), ExplainCommand(), DeleteCommand(), StatusCommand(), ImageCommand(),
	}
}
