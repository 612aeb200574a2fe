package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"ebb.dev/ebb/cmd/ebb/up"
	objects "ebb.dev/ebb/config/install"
	"ebb.dev/ebb/config/install/render"
)

// flags of `ebb install` that change values.
type flags struct {
	values                []string
	repository, tag       string
	digest, gatewayDigest string
	pullSecrets           []string
	replicas              int32
	gateway               string
	domain                string
	dryRun                bool
	output                string
	wait                  bool
	timeout               time.Duration
	access                access
}

// Ways to the gateways, for --gateway.
const (
	byLoadBalancer = "loadbalancer"
	byNodePort     = "nodeport"
	byHostPort     = "hostport"
	byClusterIP    = "clusterip"
)

// Command is `ebb install`; version is the program's own, and the tag of the images unless another is given.
func Command(version string) *cobra.Command {
	f := flags{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install Ebb on a Kubernetes cluster, or upgrade it",
		Long: "Install Ebb on the cluster of the kubeconfig, or bring it to this version: kinds, rights, settings, controller, activators, gateways,\n" +
			"the store of events and eventing, " +
			"one after the other, each waited for, so that no request is lost. What an older version had and this one has not is removed.\n" +
			"Settings that were written into the ConfigMaps of ebb-system stay.",
		Example: "  ebb install --repository registry.example.com/ebb --domain example.com\n" +
			"  ebb install --values values.yaml\n" +
			"  ebb install --repository registry.example.com/ebb -o yaml | kubectl apply --server-side -f -",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := f.read(version, cmd.Flags().Changed)
			if err != nil {
				return err
			}
			if f.dryRun || f.output != "" {
				return printed(cmd.OutOrStdout(), v, f.output)
			}
			c, err := f.access.connect()
			if err != nil {
				return err
			}
			ctx, stop := f.bounded(cmd.Context())
			defer stop()
			i := &installer{Client: c, version: version, say: up.NewProgress(cmd.OutOrStdout()), wait: f.wait}
			return i.install(ctx, v)
		},
	}
	p := cmd.Flags()
	f.access.flags(cmd)
	p.StringArrayVar(&f.values, "values", nil, "`FILE` of values as the Helm chart takes them (config/chart/values.yaml); several are merged, and flags win")
	p.StringVar(&f.repository, "repository", "", "`HOST/PATH` under which the images ebb and ebb-gateway are")
	p.StringVar(&f.tag, "tag", "", "`TAG` of the images; this program's version when not given")
	p.StringVar(&f.digest, "digest", "", "`sha256:…` of the image ebb, instead of the tag")
	p.StringVar(&f.gatewayDigest, "gateway-digest", "", "`sha256:…` of the image ebb-gateway, instead of the tag")
	p.StringArrayVar(&f.pullSecrets, "pull-secret", nil, "`NAME` of a Secret of ebb-system with which the images are pulled")
	p.Int32Var(&f.replicas, "replicas", 2, "`NUMBER` of controllers, of activators, of gateways and of eventing parts")
	p.StringVar(&f.gateway, "gateway", byLoadBalancer, "`WAY` by which gateways are reached: loadbalancer, nodeport, hostport (ports 80 and 443 of their nodes) or clusterip")
	p.StringVar(&f.domain, "domain", "", "`DOMAIN` of Services: NAME.NAMESPACE.DOMAIN; without any they are reached inside the cluster only")
	p.BoolVar(&f.dryRun, "dry-run", false, "print the objects, as -o yaml does, and ask no cluster")
	p.StringVarP(&f.output, "output", "o", "", "print the objects as `yaml` and ask no cluster")
	p.BoolVar(&f.wait, "wait", true, "wait for each part; without, an upgrade may lose requests")
	p.DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long all of it may take")
	ways := []string{byLoadBalancer, byNodePort, byHostPort, byClusterIP}
	_ = cmd.RegisterFlagCompletionFunc("gateway", cobra.FixedCompletions(ways, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"yaml"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("values", "yaml", "yml", "json")
	return cmd
}

func (f *flags) bounded(ctx context.Context) (context.Context, func()) {
	ctx, now, release := up.Interrupts(ctx, func() {})
	_ = now
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	return ctx, func() { cancel(); release() }
}

// read makes values of defaults, files and flags, in this order.
func (f *flags) read(version string, given func(string) bool) (objects.Values, error) {
	v := objects.Default()
	v.Image.Tag = tagOf(version)
	for _, name := range f.values {
		text, err := os.ReadFile(name)
		if err != nil {
			return v, fmt.Errorf("--values: %w", err)
		}
		if err := yaml.UnmarshalStrict(text, &v); err != nil {
			return v, fmt.Errorf("--values %s: %w: config/chart/values.yaml lists what there is", name, err)
		}
	}
	for flag, to := range map[string]*string{
		"repository": &v.Image.Repository, "tag": &v.Image.Tag, "digest": &v.Image.Digests.Ebb, "gateway-digest": &v.Image.Digests.Gateway,
	} {
		if given(flag) {
			*to = map[string]string{"repository": f.repository, "tag": f.tag, "digest": f.digest, "gateway-digest": f.gatewayDigest}[flag]
		}
	}
	for _, name := range f.pullSecrets {
		v.Image.PullSecrets = append(v.Image.PullSecrets, corev1.LocalObjectReference{Name: name})
	}
	if given("replicas") {
		v.SetReplicas(f.replicas)
	}
	if given("gateway") {
		v.Gateway.HostPort.Enabled = f.gateway == byHostPort
		switch f.gateway {
		case byLoadBalancer:
			v.Gateway.Service.Type = corev1.ServiceTypeLoadBalancer
		case byNodePort:
			v.Gateway.Service.Type = corev1.ServiceTypeNodePort
		case byHostPort, byClusterIP:
			v.Gateway.Service.Type = corev1.ServiceTypeClusterIP
		default:
			return v, fmt.Errorf("--gateway %s: there are %s, %s, %s and %s", f.gateway, byLoadBalancer, byNodePort, byHostPort, byClusterIP)
		}
	}
	if f.domain != "" {
		if v.Settings == nil {
			v.Settings = map[string]map[string]string{}
		}
		if v.Settings["config-domain"] == nil {
			v.Settings["config-domain"] = map[string]string{}
		}
		v.Settings["config-domain"][f.domain] = ""
	}
	if v.Image.Repository == "" {
		return v, errors.New("--repository is needed: HOST/PATH under which the images ebb and ebb-gateway are; `make images IMAGE_REPOSITORY=HOST/PATH` pushes them there")
	}
	if f.output != "" && f.output != "yaml" {
		return v, fmt.Errorf("-o %s: yaml is what there is", f.output)
	}
	return v, v.Check()
}

// tagOf is the tag under which images of a version are pushed: a version may have characters that a tag may not.
func tagOf(version string) string { return strings.ReplaceAll(version, "+", "-") }

func printed(out io.Writer, v objects.Values, _ string) error {
	stages, err := objects.Stages(v)
	if err != nil {
		return err
	}
	var all []client.Object
	for _, s := range stages {
		all = append(all, s.Objects...)
	}
	text, err := render.YAML(all)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
