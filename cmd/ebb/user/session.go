package user

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/cmd/ebb/output"
)

// Flags that every user command takes.
type Flags struct {
	Kubeconfig string
	Namespace  string
	Data       string
	Output     string
}

// Add the flags to a command and all below it.
func (f *Flags) Add(cmd *cobra.Command) {
	p := cmd.Flags()
	p.StringVar(&f.Kubeconfig, "kubeconfig", "", "`FILE` that names the kube-apiserver; else $KUBECONFIG, else the running `ebb up`")
	p.StringVarP(&f.Namespace, "namespace", "n", "", "`NAMESPACE`; else that of the kubeconfig")
	p.StringVar(&f.Data, "data", "", "`DIR` of the running `ebb up`")
	_ = cmd.RegisterFlagCompletionFunc("namespace", f.completeNamespaces)
	_ = cmd.MarkFlagFilename("kubeconfig")
	_ = cmd.MarkFlagDirname("data")
}

// AddOutput adds -o.
func (f *Flags) AddOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.Output, "output", "o", "", "`FORMAT`: "+strings.Join(output.Formats(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(output.Formats(), cobra.ShellCompDirectiveNoFileComp))
}

// Session is a connection to a kube-apiserver, and where to write.
type Session struct {
	client.WithWatch
	Pods      kubernetes.Interface
	Namespace string
	Format    output.Format
	Out, Err  io.Writer
	Local     *datadir.Running // the `ebb up` that runs on this machine; nil when there is none, or another cluster is meant

	config *rest.Config
}

// Connect follows the flags.
func (f *Flags) Connect(cmd *cobra.Command) (*Session, error) {
	format, err := output.ParseFormat(f.Output)
	if err != nil {
		return nil, err
	}
	config, namespace, local, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	s, err := NewSession(config, namespace, cmd.OutOrStdout(), cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	s.Format, s.Local = format, local
	return s, nil
}

// NewSession connects with a config.
func NewSession(config *rest.Config, namespace string, out, errOut io.Writer) (*Session, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200
	config.WarningHandler = rest.NoWarnings{}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme), eventingv1.AddToScheme(scheme), sourcesv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Session{WithWatch: c, Pods: set, Namespace: namespace, Out: out, Err: errOut, config: config}, nil
}

// mapper knows the few kinds in use, so that no discovery is needed.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper([]schema.GroupVersion{v1.GroupVersion, eventingv1.GroupVersion, sourcesv1.GroupVersion, corev1.SchemeGroupVersion})
	for _, kind := range []string{v1.KindService, v1.KindConfiguration, v1.KindRoute, v1.KindRevision} {
		m.Add(v1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{eventingv1.KindBroker, eventingv1.KindTrigger} {
		m.Add(eventingv1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{sourcesv1.KindPingSource, sourcesv1.KindApiServerSource} {
		m.Add(sourcesv1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"Pod", "Event"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"Namespace", "Node"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	return m
}

func (f *Flags) restConfig() (*rest.Config, string, *datadir.Running, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	var local *datadir.Running
	named := f.Kubeconfig
	if named == "" && f.Data == "" {
		named = os.Getenv("KUBECONFIG")
	}
	if named != "" {
		rules.ExplicitPath = f.Kubeconfig
		local = platformOf(named)
	} else if running, up := f.running(); up {
		rules.ExplicitPath = running.Kubeconfig
		local = &running
	} else if f.Data != "" {
		return nil, "", nil, fmt.Errorf("no `ebb up` runs on %s: start it with `ebb up --data %s`", f.Data, f.Data)
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, "", nil, errors.New("no platform is running here and no kubeconfig is set: start one with `ebb up`, name the folder of a running one with --data DIR, or a cluster with --kubeconfig FILE or $KUBECONFIG")
		}
		return nil, "", nil, fmt.Errorf("kubeconfig: %w", err)
	}
	namespace := f.Namespace
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, "", nil, fmt.Errorf("kubeconfig: %w", err)
		}
	}
	return config, namespace, local, nil
}

// platformOf is the `ebb up` that wrote the kubeconfig and runs; nil for another one.
func platformOf(kubeconfig string) *datadir.Running {
	dir, err := datadir.At(filepath.Dir(kubeconfig))
	if err != nil || filepath.Base(kubeconfig) != filepath.Base(dir.Kubeconfig()) {
		return nil
	}
	running, up := dir.ReadRunning()
	if !up {
		return nil
	}
	return &running
}

func (f *Flags) running() (datadir.Running, bool) {
	dir, err := datadir.At(f.Data)
	if err != nil {
		return datadir.Running{}, false
	}
	return dir.ReadRunning()
}

// explain adds the next step to errors that people meet.
func (s *Session) explain(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource"), meta.IsNoMatchError(err):
		return errors.New("this cluster does not serve serving.knative.dev: Ebb is not installed there")
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s is not in namespace %s: `ebb list` shows what is there (-n NAMESPACE for another one)", what, s.Namespace)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: you are not allowed to: %w", what, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return fmt.Errorf("%s was refused: %w", what, err)
	case strings.Contains(err.Error(), "connection refused"):
		return fmt.Errorf("the kube-apiserver does not answer (is `ebb up` running?): %w", err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
