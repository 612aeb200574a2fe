package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"ebb.dev/ebb/apis/serving"
	"ebb.dev/ebb/eventing/inspect"
)

// How the eventing part is found on a cluster.
const (
	eventingLease   = "ebb-eventing"
	inspectPort     = 9092 // of the pod's loopback
	ingressPort     = 8080 // of the pod
	ingressPortName = "events"
)

// inspector reaches what answers `ebb events`: that of the `ebb up` that runs here, or, by a port-forward, that of the
// cluster's eventing part. close ends the port-forward.
func (s *Session) inspector(ctx context.Context) (c *inspect.Client, closed func(), err error) {
	if s.Local != nil {
		if s.Local.Inspect == "" {
			return nil, nil, errNoEventing
		}
		return &inspect.Client{HTTP: &http.Client{Transport: &http.Transport{Proxy: nil}}, Address: s.Local.Inspect}, func() {}, nil
	}
	address, closed, err := s.forward(ctx, func(*corev1.Pod) int { return inspectPort })
	if err != nil {
		return nil, nil, err
	}
	return &inspect.Client{HTTP: &http.Client{Transport: &http.Transport{Proxy: nil}}, Address: address}, closed, nil
}

var errNoEventing = errors.New("this `ebb up` runs without eventing: start it without --eventing=false")

// ingress is a URL by which this machine reaches a Broker's address.
func (s *Session) ingress(ctx context.Context, address string) (reached string, closed func(), err error) {
	if s.Local != nil {
		return address, func() {}, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", nil, fmt.Errorf("the broker's address %q: %w", address, err)
	}
	if !strings.Contains(u.Hostname(), ".svc") {
		return address, func() {}, nil
	}
	u.Host, closed, err = s.forward(ctx, func(p *corev1.Pod) int {
		for i := range p.Spec.Containers {
			for _, port := range p.Spec.Containers[i].Ports {
				if port.Name == ingressPortName {
					return int(port.ContainerPort)
				}
			}
		}
		return ingressPort
	})
	u.Scheme = "http"
	return u.String(), closed, err
}

// forward opens a port of this machine's loopback for one of the eventing part's leading pod.
func (s *Session) forward(ctx context.Context, port func(*corev1.Pod) int) (address string, closed func(), err error) {
	lease, err := s.Pods.CoordinationV1().Leases(serving.Namespace).Get(ctx, eventingLease, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil, fmt.Errorf("no eventing part leads: lease %s/%s does not exist; is eventing installed there? `kubectl get pods -n %s`", serving.Namespace, eventingLease, serving.Namespace)
	case err != nil:
		return "", nil, s.explain(err, "lease "+serving.Namespace+"/"+eventingLease)
	}
	name, err := holder(lease)
	if err != nil {
		return "", nil, fmt.Errorf("no eventing part leads now: try again in a moment; `kubectl get pods -n %s` shows them", serving.Namespace)
	}
	pod, err := s.Pods.CoreV1().Pods(serving.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", nil, s.explain(err, "pod "+serving.Namespace+"/"+name)
	}
	transport, upgrader, err := spdy.RoundTripperFor(s.config)
	if err != nil {
		return "", nil, err
	}
	to := s.Pods.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewOnAddresses(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, to),
		[]string{"127.0.0.1"}, []string{"0:" + strconv.Itoa(port(pod))}, stop, ready, io.Discard, s.Err)
	if err != nil {
		return "", nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		if err == nil {
			err = errors.New("it ended")
		}
		return "", nil, fmt.Errorf("port-forward to pod %s/%s (you need \"create\" on \"pods/portforward\" in namespace %s): %w", pod.Namespace, pod.Name, pod.Namespace, err)
	case <-ctx.Done():
		close(stop)
		return "", nil, ctx.Err()
	}
	ports, err := f.GetPorts()
	if err != nil || len(ports) != 1 {
		close(stop)
		return "", nil, fmt.Errorf("port-forward to pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ports[0].Local))), func() { close(stop) }, nil
}
