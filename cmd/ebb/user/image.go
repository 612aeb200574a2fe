package user

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	imagebuild "ebb.dev/ebb/cmd/ebb/image"
)

// ImageCommand is `ebb image`.
func ImageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Bring images to the platform on this machine", Args: cobra.NoArgs}
	cmd.AddCommand(imageLoadCommand())
	return cmd
}

func imageLoadCommand() *cobra.Command {
	var f Flags
	var registry, name string
	cmd := &cobra.Command{
		Use:   "load FILE.tar|DIR",
		Short: "Put an image from a file into the registry, and print what to deploy",
		Long: "Put an image from an OCI layout (a folder or a .tar of it) or from a docker archive (`docker save`), gzipped or not,\n" +
			"into the registry of the running `ebb up`, and print its reference by digest.",
		Example: "  ebb image load web.tar\n  ebb deploy web --image $(ebb image load ./web-oci)",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if registry == "" {
				running, up := f.running()
				if !up {
					return errors.New("no platform runs here: start `ebb up`, name its folder with --data DIR, or give --registry HOST/PATH")
				}
				registry = running.Registry
			}
			ref, err := imagebuild.Load(cmd.Context(), args[0], registry, name)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), ref)
			return nil
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.Data, "data", "", "data `folder` of the platform")
	p.StringVar(&registry, "registry", "", "`HOST/PATH` to push to; else that of the running `ebb up`")
	p.StringVar(&name, "name", "", "`NAME[:TAG]` in the registry; else the one in the file, else the file's own")
	return cmd
}
