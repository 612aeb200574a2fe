package install

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// access is how the cluster is found: as kubectl does, and never a running `ebb up`, which installs itself.
type access struct{ kubeconfig, context string }

func (a *access) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.kubeconfig, "kubeconfig", "", "`FILE` that names the cluster; else $KUBECONFIG, else ~/.kube/config")
	f.StringVar(&a.context, "context", "", "`NAME` of the kubeconfig's context; else its current one")
	_ = cmd.MarkFlagFilename("kubeconfig")
}

func (a *access) connect() (client.Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.context}).ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, errors.New("no cluster is known: name a kubeconfig with --kubeconfig FILE or $KUBECONFIG")
		}
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return newClient(config)
}

func newClient(config *rest.Config) (client.Client, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200
	config.WarningHandler = rest.NoWarnings{}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, explain(err, "connect to "+config.Host)
	}
	return c, nil
}

// explain adds what to do to errors that people meet.
func explain(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "attempting to grant RBAC permissions not currently held"):
		return fmt.Errorf("%s: you may give the controller only rights that you have yourself; an administrator of the cluster has them all: %w", what, err)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: your account may not do that: installing takes an administrator of the cluster (`kubectl auth can-i '*' '*' -A`): %w", what, err)
	case meta.IsNoMatchError(err):
		return fmt.Errorf("%s: the cluster does not serve this kind; Kubernetes 1.33 or newer is needed: %w", what, err)
	case strings.Contains(err.Error(), "connection refused"), strings.Contains(err.Error(), "no such host"), strings.Contains(err.Error(), "i/o timeout"):
		return fmt.Errorf("%s: the kube-apiserver does not answer; does `kubectl version` reach it? %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
