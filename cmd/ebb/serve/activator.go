package serve

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/activator"
)

// ActivatorCommand is `ebb activator`.
func ActivatorCommand() *cobra.Command {
	var o activator.Options
	var files tlsFiles
	var profiles profiling
	var verbose bool
	cmd := &cobra.Command{
		Use:   "activator",
		Short: "Run an activator: it holds requests for revisions that have no capacity",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			if o.Name == "" {
				return errors.New("--name is needed: the control plane tells activators apart by it")
			}
			o.Logger = newLogger(verbose)
			var err error
			if o.Trust, err = files.source(o.Logger); err != nil {
				return err
			}
			if err := profiles.start(cmd.Context(), o.Logger); err != nil {
				return err
			}
			return activator.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", os.Getenv("POD_NAME"), "`NAME`, unique among activators; $POD_NAME when not given")
	f.StringVar(&o.Listen, "listen", ":8012", "`ADDRESS` for requests")
	f.StringVar(&o.Advertise, "advertise", podAddress("8012"), "`IP:PORT` where gateways reach --listen; $POD_IP and 8012 when not given, or --listen itself when that has an IP")
	f.BoolVar(&o.DrainShared, "drain-shared", false, "other activators on this machine listen on --drain-listen too")
	f.StringVar(&o.DrainListen, "drain-listen", ":8013", "`ADDRESS` for the preStop hooks of pods")
	f.StringVar(&o.HealthListen, "metrics-listen", ":9090", "`ADDRESS` of /metrics, /healthz and /readyz")
	f.StringVar(&o.ControlAddress, "control", "ebb-controller.ebb-system.svc:18000", "`HOST:PORT` of the control plane; several with commas between them, or a name that stands for several, where replicas take turns")
	files.flags(f)
	profiles.flags(f)
	f.IntVar(&o.MaxHeld, "max-held", 0, "requests held for one revision; more are refused (default 10000)")
	f.IntVar(&o.MaxHeldTotal, "max-held-total", 0, "requests held in all (default 25000)")
	f.DurationVar(&o.ShutdownGrace, "drain-timeout", 30*time.Second, "how long requests in progress may take once it is told to end; with 5s in which gateways hear of it, less than the pod's terminationGracePeriodSeconds")
	f.BoolVarP(&verbose, "verbose", "v", false, "log what is usually not worth a line")
	return cmd
}

// podAddress is a port of the pod that this process runs in, "" outside of one.
func podAddress(port string) string {
	if ip := os.Getenv("POD_IP"); ip != "" {
		return net.JoinHostPort(ip, port)
	}
	return ""
}

func newLogger(verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
