package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// options of a build.
type options struct {
	version     string
	revision    string // of the source
	created     time.Time
	platforms   []string // of GOARCH, all Linux
	repository  string   // to push to; "" for none
	tag         string
	insecure    bool
	layout      string // folder of the OCI layout that is written where nothing is pushed
	cache       string // folder of what is fetched and built
	gatewayBase string // image that has what Envoy needs, instead of Debian's libc6
	values      string // file for `ebb install --values`
	say         func(format string, args ...any)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := options{}
	epoch := ""
	cmd := &cobra.Command{
		Use: "ebb-images", Short: "Build the images ebb and ebb-gateway", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			seconds, err := strconv.ParseInt(epoch, 10, 64)
			if err != nil {
				return fmt.Errorf("--created %q: seconds since 1970 are needed, as `git log -1 --format=%%ct` prints them", epoch)
			}
			o.created = time.Unix(seconds, 0).UTC()
			if o.tag == "" {
				o.tag = strings.ReplaceAll(o.version, "+", "-")
			}
			o.say = func(format string, args ...any) { fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...) }
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.version, "version", "dev", "`VERSION` that the programs say they are")
	f.StringVar(&o.revision, "revision", "", "`COMMIT` of the source, for the label")
	f.StringVar(&epoch, "created", "0", "`SECONDS` since 1970 that all files and images are dated")
	f.StringSliceVar(&o.platforms, "arch", []string{"amd64", "arm64"}, "`ARCHITECTURES` to build for")
	f.StringVar(&o.repository, "repository", "", "`HOST/PATH` to push to; none: an OCI layout is written")
	f.StringVar(&o.tag, "tag", "", "`TAG`; the version when not given")
	f.BoolVar(&o.insecure, "insecure", false, "the registry speaks plain HTTP; those on the loopback are taken to")
	f.StringVar(&o.layout, "layout", "out/images", "`DIR` of the OCI layout")
	f.StringVar(&o.cache, "cache", "out/images.cache", "`DIR` of what is fetched")
	f.StringVar(&o.gatewayBase, "gateway-base", "", "`IMAGE` with the libraries that Envoy needs, instead of Debian's libc6: such as gcr.io/distroless/base-nossl-debian12")
	f.StringVar(&o.values, "values", "out/images.yaml", "`FILE` that gets the images' names and digests, for `ebb install --values` and `helm --values`")
	return cmd
}

// names of the images.
const (
	ebbName     = "ebb"
	gatewayName = "ebb-gateway"
)

var descriptions = map[string]string{
	ebbName:     "The parts of Ebb and its command",
	gatewayName: "The gateway of Ebb: Envoy, and the program that runs and drains it",
}

func run(ctx context.Context, o options) error {
	var ebb, gateway []built
	for _, arch := range o.platforms {
		o.say("linux/%s: compiling ebb", arch)
		program, err := compile(ctx, o, arch)
		if err != nil {
			return err
		}
		envoy, err := fetchEnvoy(ctx, o, arch)
		if err != nil {
			return err
		}
		in := inputs{arch: arch, program: program, envoy: envoy}
		if o.gatewayBase == "" {
			if in.libc, err = fetchLibc(ctx, o, arch); err != nil {
				return err
			}
		}
		o.say("linux/%s: putting the images together", arch)
		e, g, err := assemble(ctx, o, in)
		if err != nil {
			return fmt.Errorf("linux/%s: %w", arch, err)
		}
		ebb, gateway = append(ebb, e), append(gateway, g)
	}
	digests := map[string]string{}
	for name, images := range map[string][]built{ebbName: ebb, gatewayName: gateway} {
		digest, err := publish(ctx, o, name, images)
		if err != nil {
			return err
		}
		digests[name] = digest
	}
	return writeValues(o, digests)
}

// writeValues is for whoever installs what was built.
func writeValues(o options, digests map[string]string) error {
	if o.values == "" {
		return nil
	}
	if o.repository == "" {
		o.say("nothing was pushed: --repository HOST/PATH (make images IMAGE_REPOSITORY=…) does, or `ebb image load`, skopeo and crane read the layout")
		return nil
	}
	text, err := yaml.Marshal(map[string]any{"image": map[string]any{
		"repository": o.repository, "tag": o.tag, "digests": map[string]string{"ebb": digests[ebbName], "gateway": digests[gatewayName]},
	}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(o.values), 0o755), os.WriteFile(o.values, text, 0o644)); err != nil {
		return err
	}
	o.say("install them with `ebb install --values %s`", o.values)
	return nil
}
