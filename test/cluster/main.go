//go:build linux

// Command cluster is a real Kubernetes of one node, for tests: Kubernetes' own programs from
// their Go modules, containerd, runc, CNI plugins and nftables from Debian's packages, CoreDNS
// and a registry. It needs root and Linux, and neither Docker, systemd nor a network.
//
//	cluster up        starts it, unless it runs, and returns when it is ready
//	cluster run CMD   runs CMD inside the node, where pods and Services have their addresses
//	cluster smoke     proves that it works
//	cluster down      ends it; nothing is left
//
// Everything is in namespaces of the node's own (network, mounts, processes, host name, IPC) and
// in one folder; the machine itself gets two listeners on its loopback and one parent of control
// groups, which go with the node. The parts: keep (the process on the machine that holds the
// node), first (its process 1), manage (what starts and watches the programs). test/cluster.sh
// builds what it needs and starts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := command(ctx, os.Args[1:])
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

const usage = "usage: cluster [flags] check|up|down|run CMD…|smoke|env"

func command(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintln(f.Output(), usage)
		f.PrintDefaults()
	}
	var h home
	f.StringVar(&h.root, "home", "out/cluster", "`folder` of the node: programs, state and logs")
	f.StringVar(&h.bin, "bin", "bin", "`folder` with ebb, ebb-kube and ebb-node")
	f.IntVar(&h.APIPort, "api-port", 16443, "loopback `port` of the kube-apiserver, the same inside the node")
	f.IntVar(&h.RegistryPort, "registry-port", 15000, "loopback `port` of the registry; pods name it registry.localhost:PORT")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		f.Usage()
		return errors.New("no command")
	}
	var err error
	if h.root, err = filepath.Abs(h.root); err != nil {
		return err
	}
	if h.bin, err = filepath.Abs(h.bin); err != nil {
		return err
	}
	name, rest := f.Arg(0), f.Args()[1:]
	if name != "run" && len(rest) > 0 {
		return fmt.Errorf("%s: unknown argument %q", name, rest[0])
	}
	switch name {
	case "check":
		return h.check()
	case "up":
		return h.up(ctx)
	case "down":
		return h.down()
	case "run":
		return h.run(rest)
	case "smoke":
		return h.smoke(ctx)
	case "env":
		for _, line := range h.environment() {
			fmt.Println("export " + strings.Replace(line, "=", "='", 1) + "'")
		}
		return nil
	case "keep":
		return h.keep(ctx)
	case "first":
		return h.first()
	case "manage":
		return h.manage(ctx)
	}
	return fmt.Errorf("unknown command %q; %s", name, usage)
}
