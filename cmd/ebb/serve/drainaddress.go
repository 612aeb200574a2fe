package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// hookService is the Service at whose address activators answer the preStop hooks of pods. A kubelet
// knows no names of the cluster, so pods are made with the address itself.
type hookService struct {
	namespace, name string
	port            string
	log             *slog.Logger

	address string // that was found
}

const (
	lookForService  = time.Second
	serviceDeadline = 2 * time.Minute
)

// find waits until the Service has an address.
func (h *hookService) find(ctx context.Context, live client.Reader) (string, error) {
	var last error
	err := wait.PollUntilContextTimeout(ctx, lookForService, serviceDeadline, true, func(ctx context.Context) (bool, error) {
		var s corev1.Service
		if last = live.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: h.name}, &s); last != nil {
			h.log.Info("waiting for the Service at which activators answer pods' hooks", "service", h.namespace+"/"+h.name, "error", last)
			return false, nil //nolint:nilerr // it is asked again
		}
		if last = h.take(&s); last != nil {
			return false, last
		}
		return true, nil
	})
	if last != nil {
		return "", last
	}
	return h.address, err
}

func (h *hookService) take(s *corev1.Service) error {
	if net.ParseIP(s.Spec.ClusterIP) == nil {
		return fmt.Errorf("--drain-service %s: Service %s/%s has no address of its own (clusterIP %q): it must not be headless, pods' hooks are sent there", h.name, h.namespace, h.name, s.Spec.ClusterIP)
	}
	h.address = net.JoinHostPort(s.Spec.ClusterIP, h.port)
	return nil
}

// watch ends the controller when the Service has another address: one that starts makes all Deployments with it.
func (h *hookService) watch(c cache.Cache) func(context.Context) error {
	return func(ctx context.Context) error {
		informer, err := c.GetInformer(ctx, &corev1.Service{})
		if err != nil {
			return err
		}
		moved := make(chan string, 1)
		look := func(o any) {
			s, ok := o.(*corev1.Service)
			if !ok || s.Namespace != h.namespace || s.Name != h.name || net.ParseIP(s.Spec.ClusterIP) == nil {
				return
			}
			if now := net.JoinHostPort(s.Spec.ClusterIP, h.port); now != h.address {
				select {
				case moved <- now:
				default:
				}
			}
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, o any) { look(o) }})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case now := <-moved:
			return fmt.Errorf("service %s/%s is at %s now, and was at %s: starting again with that", h.namespace, h.name, now, h.address)
		}
	}
}
