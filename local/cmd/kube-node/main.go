// Command kube-node is what a node of a real Kubernetes runs beside the control plane of
// ebb-kube: kubelet, kube-proxy and kube-scheduler, each exactly the program of its Go
// module, chosen by the first argument, and a small metrics server. test/cluster starts it, no user ever does.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric on /metrics
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if len(os.Args) > 1 {
		program := os.Args[1]
		os.Args = os.Args[1:]
		switch program { // only the one chosen is set up: their global flags and metrics never meet
		case "kubelet":
			os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
		case "kube-proxy":
			os.Exit(cli.Run(proxy.NewProxyCommand()))
		case "metrics":
			err := serveMetrics(os.Args[1:])
			fmt.Fprintln(os.Stderr, "metrics:", err)
			os.Exit(1)
		case "kube-scheduler":
			os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
		}
	}
	fmt.Fprintln(os.Stderr, "usage: kube-node kubelet|kube-proxy|kube-scheduler|metrics [flags of the program]")
	os.Exit(2)
}
