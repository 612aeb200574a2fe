package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	_ "time/tzdata" // time zones of CronJobs on a machine without a zone database

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's login methods
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric on /metrics
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// program runs one of the programs; os.Args are already that program's own. It
// returns the exit code.
type program struct {
	name string
	run  func() int
}

func programs() []program {
	return []program{
		{"etcd", func() int { etcdmain.Main(os.Args); return 0 }},
		{"kube-apiserver", func() int { return cli.Run(apiserver.NewAPIServerCommand()) }},
		{"kube-controller-manager", func() int { return cli.Run(controllers.NewControllerManagerCommand()) }},
		{"kubectl", func() int {
			if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
				util.CheckErr(err) // prints it as kubectl does and exits
			}
			return 0
		}},
	}
}

func main() {
	all := programs()
	find := func(name string) int {
		return slices.IndexFunc(all, func(p program) bool { return p.name == name })
	}
	// By the name it was started under, then by the first argument.
	if i := find(filepath.Base(os.Args[0])); i >= 0 {
		os.Exit(all[i].run())
	}
	if len(os.Args) > 1 {
		if i := find(os.Args[1]); i >= 0 {
			os.Args = os.Args[1:]
			os.Exit(all[i].run())
		}
		if a := os.Args[1]; a != "-h" && a != "--help" && a != "help" {
			fmt.Fprintf(os.Stderr, "ebb-kube: no program %q in here\n", a)
		}
	}
	fmt.Fprintln(os.Stderr, "usage: ebb-kube PROGRAM [flags of the program]\nprograms:")
	for _, p := range all {
		fmt.Fprintln(os.Stderr, "  "+p.name)
	}
	os.Exit(2)
}
