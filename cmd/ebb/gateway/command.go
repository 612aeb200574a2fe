package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"ebb.dev/ebb/cmd/ebb/envoybin"
	"ebb.dev/ebb/proxy/envoy"
)

// Command is `ebb gateway`.
func Command() *cobra.Command {
	c := Config{}
	var tls envoy.BootstrapTLS
	var folder, health, program, heap string
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run a gateway: an Envoy with its limits, drained when it is told to end",
		Long: "Run a gateway: an Envoy that gets its configuration from the control plane. It is started again when it ends by itself.\n" +
			"SIGTERM or Ctrl-C drains it: it is not ready any more, goes on to serve while load balancers take notice, takes no new connection\n" +
			"then, and ends when the requests that it has are answered or --drain-timeout is over.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			if c.Bootstrap.NodeID == "" {
				return errors.New("--name is needed: the control plane tells gateways apart by it")
			}
			if heap != "" {
				q, err := resource.ParseQuantity(heap)
				if err != nil || q.Sign() <= 0 {
					return fmt.Errorf("--max-heap %q: a size like 512Mi is needed", heap)
				}
				c.Bootstrap.Overload.HeapBytes = uint64(q.Value())
			}
			if tls != (envoy.BootstrapTLS{}) {
				c.Bootstrap.TLS = &tls
			}
			search, err := envoybin.Default(program)
			if err != nil {
				return err
			}
			if c.Envoy, _, err = search.Find(); err != nil {
				return err
			}
			c.Bootstrap.Overload = Limits(c.Bootstrap.Overload)
			c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
			return Run(cmd.Context(), c, folder, health, os.Stderr)
		},
	}
	f := cmd.Flags()
	b := &c.Bootstrap
	f.StringVar(&b.NodeID, "name", os.Getenv("POD_NAME"), "`NAME`, unique among gateways; $POD_NAME when not given")
	f.StringVar(&b.Controller, "control", "ebb-controller.ebb-system.svc:18000", "`HOST:PORT` of the control plane; several with commas between them, or a name that stands for several, where replicas take turns")
	f.StringVar(&tls.CertFile, "tls-cert", "", "certificate `FILE` for the control connection")
	f.StringVar(&tls.KeyFile, "tls-key", "", "private key `FILE` for the control connection")
	f.StringVar(&tls.CAFile, "tls-ca", "", "`FILE` with the authorities whose certificates the control plane must have")
	f.StringVar(&b.Admin, "admin", "127.0.0.1:9901", "`ADDRESS` of Envoy's own interface: on the loopback, or unix:PATH")
	f.StringVar(&health, "metrics-listen", ":9090", "`ADDRESS` of /metrics, /healthz and /readyz")
	f.StringVar(&folder, "dir", "/tmp/ebb-gateway", "`DIR` for the bootstrap and the end of Envoy's log")
	f.StringVar(&program, "envoy", "", "`PATH` of the Envoy to run; else $ENVOY, the PATH, the cache")
	f.IntVar(&c.Concurrency, "concurrency", runtime.GOMAXPROCS(0), "worker threads")
	f.StringVar(&heap, "max-heap", "", "memory that Envoy may use, as 512Mi; 80 % of the container's limit or a quarter of the machine's when not given")
	f.Uint32Var(&b.Overload.Connections, "max-connections", 0, "connections of clients at once; from the memory and the limit of open files when not given")
	f.DurationVar(&c.Notice, "drain-notice", 5*time.Second, "for how long new connections are taken while draining")
	f.DurationVar(&c.Timeout, "drain-timeout", time.Minute, "how long requests may take while draining; with --drain-notice, less than the pod's terminationGracePeriodSeconds")
	return cmd
}
