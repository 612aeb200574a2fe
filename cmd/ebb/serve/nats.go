package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"ebb.dev/ebb/eventing/natsserver"
	"ebb.dev/ebb/trust"
)

// natsFlags are the flags that are not options of the server as they stand.
type natsFlags struct {
	tls                         tlsFiles
	profiles                    profiling
	sync, maxStore, maxPayload  string
	passwordFile, metricsListen string
	verbose                     bool
	server                      natsserver.Options
	started                     func(url string) // for tests
}

// NATSCommand is `ebb nats`.
func NATSCommand() *cobra.Command {
	var n natsFlags
	cmd := &cobra.Command{
		Use:   "nats",
		Short: "Run a NATS server with JetStream: the store of events of a small installation",
		Long: `Run a NATS server with JetStream: the store of events of a small installation.

An event that was acknowledged outlives this process however it ends. With --sync always it
outlives the loss of power too, for one sync of the disk an event; otherwise the loss of power
takes at most what came within --sync.

Larger installations give Ebb the URL of a NATS cluster instead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return n.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.server.Name, "name", os.Getenv("POD_NAME"), "`NAME` of the server; $POD_NAME when not given")
	f.StringVar(&n.server.Listen, "listen", "127.0.0.1:4222", "`ADDRESS` for clients")
	f.StringVar(&n.server.Folder, "data", "", "`FOLDER` of the events; it is made when it is not there")
	f.StringVar(&n.sync, "sync", "10s", "`DURATION` between two syncs of the disk, or \"always\": before each event is acknowledged")
	f.StringVar(&n.maxStore, "max-store", "", "`BYTES` that topics may be promised in all, such as 20Gi; three quarters of the free disk when not given")
	f.StringVar(&n.maxPayload, "max-payload", "2Mi", "`BYTES` of the largest event with its attributes")
	f.IntVar(&n.server.MaxConnections, "max-connections", 0, "clients at once (default 10000)")
	f.StringVar(&n.server.User, "user", "", "`NAME` that clients have to give, with the password in --password-file")
	f.StringVar(&n.passwordFile, "password-file", "", "`FILE` with the password that clients have to give")
	f.StringVar(&n.metricsListen, "metrics-listen", "127.0.0.1:9091", "`ADDRESS` of /metrics, /healthz and /readyz; empty for none")
	n.tls.flags(f)
	n.profiles.flags(f)
	f.BoolVarP(&n.verbose, "verbose", "v", false, "log what is usually not worth a line")
	return cmd
}

// options reads the flags.
func (n *natsFlags) options() (natsserver.Options, error) {
	o := n.server
	if o.Folder == "" {
		return o, errors.New("--data is needed: the folder of the events")
	}
	var err error
	if o.SyncAlways = n.sync == "always"; !o.SyncAlways {
		if o.SyncInterval, err = time.ParseDuration(n.sync); err != nil || o.SyncInterval <= 0 {
			return o, fmt.Errorf("--sync %s: a duration such as 10s is needed, or \"always\"", n.sync)
		}
	}
	if n.maxStore != "" {
		if o.MaxStore, err = quantity("--max-store", n.maxStore, 1<<60); err != nil {
			return o, err
		}
	}
	payload, err := quantity("--max-payload", n.maxPayload, 64<<20)
	if err != nil {
		return o, err
	}
	o.MaxPayload = int32(payload)
	if (o.User == "") != (n.passwordFile == "") {
		return o, errors.New("--user and --password-file go together")
	}
	if n.passwordFile != "" {
		text, err := os.ReadFile(n.passwordFile)
		if err != nil {
			return o, fmt.Errorf("--password-file: %w", err)
		}
		if o.Password = strings.TrimSpace(string(text)); o.Password == "" {
			return o, fmt.Errorf("--password-file: %s is empty", n.passwordFile)
		}
	}
	source, err := n.tls.source(newLogger(n.verbose))
	if source != nil {
		o.TLS = trust.Server(source, nil, trust.Eventing)
	}
	return o, err
}

// quantity reads bytes as Kubernetes writes them.
func quantity(flag, text string, most int64) (int64, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Value() <= 0 || q.Value() > most {
		return 0, fmt.Errorf("%s %s: a number of bytes up to %d is needed, such as 20Mi", flag, text, most)
	}
	return q.Value(), nil
}

// run serves until ctx ends, or the store fails: whoever started it starts it anew.
func (n *natsFlags) run(ctx context.Context) error {
	log := newLogger(n.verbose)
	o, err := n.options()
	if err != nil {
		return err
	}
	o.Logger = log
	if err := n.profiles.start(ctx, log); err != nil {
		return err
	}
	health := &natsHealth{}
	if n.metricsListen != "" {
		stop, err := health.serve(ctx, n.metricsListen, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	s, err := natsserver.Start(ctx, o)
	if err != nil {
		return err
	}
	defer s.Shutdown()
	health.set(s)
	log.Info("events are stored", "url", s.URL(), "folder", o.Folder, "sync", n.sync)
	if n.started != nil {
		n.started(s.URL())
	}
	return s.Wait(ctx)
}
