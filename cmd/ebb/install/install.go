package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/cmd/ebb/up"
	objects "ebb.dev/ebb/config/install"
	"ebb.dev/ebb/config/install/render"
)

// manager owns the fields that are installed; what others write beside them stays.
const manager = client.FieldOwner("ebb-install")

// installer works on one cluster.
type installer struct {
	client.Client
	version string
	say     *up.Progress
	wait    bool
}

func (i *installer) install(ctx context.Context, v objects.Values) error {
	stages, err := objects.Stages(v)
	if err != nil {
		return err
	}
	if err := i.fits(ctx); err != nil {
		return err
	}
	before, err := i.inventory(ctx)
	if err != nil {
		return err
	}
	now := inventoryOf(i.version, stages)
	switch {
	case before == nil:
		i.say.Line("installing Ebb %s", i.version)
	case before.Version == i.version:
		i.say.Line("Ebb %s is installed; bringing everything up to date", i.version)
	default:
		i.say.Line("upgrading Ebb from %s to %s", before.Version, i.version)
	}
	var later []client.Object // settings that the controller which runs does not know yet
	for _, stage := range stages {
		refused, err := i.apply(ctx, stage)
		if err != nil {
			return err
		}
		later = append(later, refused...)
		if stage.Name == objects.Namespaced {
			// Known before anything else is there: an installation that is interrupted is removed whole.
			if err := i.writeInventory(ctx, now.with(before)); err != nil {
				return err
			}
		}
		if err := i.ready(ctx, stage); err != nil {
			return err
		}
		if stage.Name == objects.Controller && len(later) > 0 {
			if refused, err := i.apply(ctx, objects.Stage{Name: stage.Name, Objects: later}); err != nil || len(refused) > 0 {
				return errors.Join(err, fmt.Errorf("ConfigMap %s is refused", names(refused)))
			}
		}
	}
	if err := i.prune(ctx, before, now); err != nil {
		return err
	}
	if err := i.writeInventory(ctx, now); err != nil {
		return err
	}
	i.say.Line("Ebb %s is installed", i.version)
	i.next(ctx, v)
	return nil
}

func names(all []client.Object) string {
	var list []string
	for _, o := range all {
		list = append(list, o.GetName())
	}
	return strings.Join(list, ", ")
}

// apply sends a stage. A ConfigMap that admission refuses is returned and is no error: the controller of an older
// version does not know all settings of a newer one.
func (i *installer) apply(ctx context.Context, stage objects.Stage) (refused []client.Object, err error) {
	for _, o := range stage.Objects {
		err := i.send(ctx, o)
		if _, settings := o.(*corev1.ConfigMap); settings && stage.Name == objects.Settings && isRefusal(err) {
			refused = append(refused, o)
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return refused, nil
}

func isRefusal(err error) bool {
	return err != nil && strings.Contains(err.Error(), "admission webhook")
}

func (i *installer) send(ctx context.Context, o client.Object) error {
	u, err := render.Unstructured(o)
	if err != nil {
		return err
	}
	err = i.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), manager, client.ForceOwnership)
	return explain(err, describe(u.GroupVersionKind(), o))
}

func describe(kind schema.GroupVersionKind, o client.Object) string {
	if o.GetNamespace() == "" {
		return kind.Kind + " " + o.GetName()
	}
	return kind.Kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// fits refuses clusters that Ebb cannot be installed on, before anything is written.
func (i *installer) fits(ctx context.Context) error {
	kind := &unstructured.Unstructured{}
	kind.SetGroupVersionKind(kindOfKinds)
	err := i.Get(ctx, client.ObjectKey{Name: "services.serving.knative.dev"}, kind)
	if client.IgnoreNotFound(err) != nil {
		return explain(err, "look for what is there")
	}
	if err == nil && kind.GetLabels()["app.kubernetes.io/name"] == "knative-serving" {
		return errors.New("this cluster has Knative Serving, and two controllers would write one status: remove it first; docs/knative.md says how to move")
	}
	var deployments appsv1.DeploymentList
	if err := i.List(ctx, &deployments, client.InNamespace(objects.Namespace)); err != nil {
		return explain(err, "read the Deployments of "+objects.Namespace)
	}
	for n := range deployments.Items {
		if release := deployments.Items[n].Annotations["meta.helm.sh/release-name"]; release != "" {
			return fmt.Errorf("the release %q of Helm is Ebb's installation here: upgrade it with helm, or remove it with `helm uninstall %s -n %s` first", release, release, objects.Namespace)
		}
	}
	return nil
}

var kindOfKinds = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// prune removes what an older version had and this one has not. Kinds stay: users' objects are of them.
func (i *installer) prune(ctx context.Context, before, now *inventory) error {
	if before == nil {
		return nil
	}
	have := map[reference]bool{}
	for _, r := range now.Objects {
		have[r.unversioned()] = true
	}
	for _, r := range slices.Backward(before.Objects) {
		if have[r.unversioned()] || r.Kind == kindOfKinds.Kind || r.Kind == "Namespace" {
			continue
		}
		u := r.object()
		err := i.Delete(ctx, u)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return explain(err, "remove "+describe(u.GroupVersionKind(), u))
		}
		i.say.Line("removed %s, which this version has not", describe(u.GroupVersionKind(), u))
	}
	return nil
}

// next says how Services are reached.
func (i *installer) next(ctx context.Context, v objects.Values) {
	var s corev1.Service
	var domains corev1.ConfigMap
	if i.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: objects.GatewayName}, &s) != nil ||
		i.Get(ctx, client.ObjectKey{Namespace: objects.Namespace, Name: "config-domain"}, &domains) != nil {
		return
	}
	i.say.Print("\n")
	switch {
	case v.Gateway.HostPort.Enabled:
		i.say.Print("  Gateways:  ports %d and %d of the nodes that `kubectl get pods -n %s -o wide` shows\n", v.Gateway.HostPort.HTTP, v.Gateway.HostPort.HTTPS, objects.Namespace)
	case s.Spec.Type == corev1.ServiceTypeNodePort:
		i.say.Print("  Gateways:  ports %d and %d of every node\n", s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort)
	case s.Spec.Type == corev1.ServiceTypeClusterIP:
		i.say.Print("  Gateways:  `kubectl port-forward -n %s service/%s 8080:80`\n", objects.Namespace, objects.GatewayName)
	case len(s.Status.LoadBalancer.Ingress) > 0:
		at := s.Status.LoadBalancer.Ingress[0]
		i.say.Print("  Gateways:  %s\n", at.IP+at.Hostname)
	default:
		i.say.Print("  Gateways:  no address yet; `kubectl get service -n %s %s` shows it once the cluster's load balancer gives one (none does? --gateway nodeport or hostport)\n", objects.Namespace, objects.GatewayName)
	}
	delete(domains.Data, "_example")
	if len(domains.Data) == 0 {
		i.say.Print("  Domain:    none, so Services are reached inside the cluster only; `ebb install … --domain DOMAIN` gives them one\n")
		return
	}
	i.say.Print("  Domain:    %s; let DNS send *.NAMESPACE.DOMAIN to the gateways\n", strings.Join(slices.Sorted(maps.Keys(domains.Data)), ", "))
}
