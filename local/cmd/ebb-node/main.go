// Command ebb-node is the node of the embedded default, whose pods are processes
// (package node), and its OCI registry (package registry).
//
//	ebb-node --kubeconfig F --name N --data DIR …    the node, until SIGINT or SIGTERM; containers go on
//	ebb-node --cleanup --data DIR                    ends what a node has left running
//	ebb-node registry --listen HOST:PORT --data DIR  the registry
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ebb.dev/ebb/local/image"
	"ebb.dev/ebb/local/node"
	"ebb.dev/ebb/local/registry"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	if len(os.Args) > 1 && os.Args[1] == "registry" {
		err = runRegistry(ctx, os.Args[2:], logger)
	} else {
		err = runNode(ctx, os.Args[1:], logger)
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ebb-node:", err)
		os.Exit(1)
	}
}

func runNode(ctx context.Context, args []string, logger *slog.Logger) error {
	f := flag.NewFlagSet("ebb-node", flag.ContinueOnError)
	self, _ := os.Executable()
	cfg := node.Config{Logger: logger, Limits: image.DefaultLimits}
	kubeconfig := f.String("kubeconfig", "", "`file` with the API server and the node's credentials")
	isolation := f.String("isolation", "auto", "auto: as strong as the machine allows; none: plain processes")
	cleanup := f.Bool("cleanup", false, "end every container left running in --data, then exit")
	f.StringVar(&cfg.Name, "name", "ebb", "name of the Node object")
	f.StringVar(&cfg.Data, "data", "", "`folder` of images, pods and logs")
	f.StringVar(&cfg.Address, "address", "127.0.0.1", "`IP` of the node and its pods")
	f.StringVar(&cfg.API.Listen, "listen", "127.0.0.1:10250", "`host:port` of the kubelet API")
	f.StringVar(&cfg.API.Cert, "tls-cert", "", "PEM `file` of the kubelet API's certificate")
	f.StringVar(&cfg.API.Key, "tls-key", "", "PEM `file` of its key")
	f.StringVar(&cfg.API.ClientCA, "client-ca", "", "PEM `file` of the CA whose clients may use the kubelet API")
	f.StringVar(&cfg.API.ClientName, "client-name", "", "common `name` of the only client that may; empty: every client of the CA")
	f.StringVar(&cfg.Metrics.Listen, "metrics-listen", "", "`host:port` of metrics.k8s.io, an aggregated API; empty: none")
	f.StringVar(&cfg.Metrics.Cert, "metrics-cert", "", "PEM `file` of its certificate")
	f.StringVar(&cfg.Metrics.Key, "metrics-key", "", "PEM `file` of the key")
	f.StringVar(&cfg.Metrics.ClientCA, "metrics-client-ca", "", "PEM `file` of the CA of the API server's front proxy")
	f.StringVar(&cfg.Metrics.ClientName, "metrics-client-name", "", "common `name` of the front proxy's certificate, the only client that may ask")
	f.StringVar(&cfg.Shim, "shim", filepath.Join(filepath.Dir(self), "ebb-shim"), "`file` of ebb-shim")
	f.StringVar(&cfg.ClusterLocal.Gateway, "gateway-service", "", "DNS `name` in the ExternalName Services of the gateway; empty: pods get no cluster-local names")
	clusterLocal := f.String("cluster-local", "", "`IP:port` of the gateway's in-cluster listener")
	f.IntVar(&cfg.PortLow, "port-low", 10000, "first `port` given to pods")
	f.IntVar(&cfg.PortHigh, "port-high", 19999, "last `port` given to pods")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if cfg.Data == "" {
		return errors.New("--data is needed: the folder of images, pods and logs")
	}
	if *cleanup {
		n, err := node.Cleanup(ctx, cfg.Data)
		if n > 0 {
			logger.Info("ended left-over containers", "count", n)
		}
		return err
	}
	switch *isolation {
	case "auto":
		cfg.Isolate = true
	case "none":
	default:
		return fmt.Errorf("--isolation=%q: auto or none", *isolation)
	}
	needed := map[string]string{"kubeconfig": *kubeconfig, "tls-cert": cfg.API.Cert, "tls-key": cfg.API.Key, "client-ca": cfg.API.ClientCA}
	if m := cfg.Metrics; m.Listen != "" {
		maps.Copy(needed, map[string]string{"metrics-cert": m.Cert, "metrics-key": m.Key, "metrics-client-ca": m.ClientCA, "metrics-client-name": m.ClientName})
	}
	for name, v := range needed {
		if v == "" {
			return fmt.Errorf("--%s is needed", name)
		}
	}
	if cfg.PortLow < 1 || cfg.PortHigh > 65535 || cfg.PortLow > cfg.PortHigh {
		return fmt.Errorf("--port-low=%d --port-high=%d: a range between 1 and 65535", cfg.PortLow, cfg.PortHigh)
	}
	if net.ParseIP(cfg.Address) == nil {
		return fmt.Errorf("--address=%q: an IP address", cfg.Address)
	}
	if cfg.ClusterLocal.Gateway != "" {
		var err error
		if cfg.ClusterLocal.Host, cfg.ClusterLocal.Port, err = net.SplitHostPort(*clusterLocal); err != nil {
			return fmt.Errorf("--cluster-local=%q: IP:port of the listener that --gateway-service means", *clusterLocal)
		}
	}
	shim, err := filepath.Abs(cfg.Shim)
	if err != nil {
		return err
	}
	if _, err := os.Stat(shim); err != nil {
		return fmt.Errorf("--shim: %w", err)
	}
	cfg.Shim = shim
	if cfg.Client, err = clientcmd.BuildConfigFromFlags("", *kubeconfig); err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	return node.Run(ctx, cfg)
}

func runRegistry(ctx context.Context, args []string, logger *slog.Logger) error {
	f := flag.NewFlagSet("ebb-node registry", flag.ContinueOnError)
	listen := f.String("listen", "127.0.0.1:5000", "`host:port`")
	data := f.String("data", "", "`folder` of blobs and manifests")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *data == "" {
		return errors.New("--data is needed: the folder of blobs and manifests")
	}
	r, err := registry.Open(*data, logger)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	logger.Info("registry listens", "address", l.Addr().String())
	s := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
