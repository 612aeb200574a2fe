package user

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ebb.dev/ebb/apis/serving"
)

// How the controller is found on a cluster.
const (
	controllerLease   = "ebb-controller"
	metricsPortName   = "metrics" // of the controller's container
	defaultMetricPort = 9090
	answerAtMost      = 4 << 20
	askTimeout        = 5 * time.Second
)

// ask asks the controller that leads: the one of the `ebb up` that runs here, or that of
// the cluster by way of the kube-apiserver, which takes "get pods/proxy" in
// ebb-system.
func (s *Session) ask(ctx context.Context, path string, query url.Values) ([]byte, error) {
	if s.Local != nil {
		text, err := fetch(ctx, "http://"+s.Local.Controller+path+"?"+query.Encode())
		for _, address := range s.Local.Controllers { // one of them leads
			if err == nil {
				break
			}
			if address != s.Local.Controller {
				if other, failed := fetch(ctx, "http://"+address+path+"?"+query.Encode()); failed == nil {
					text, err = other, nil
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("ask the controller (`ebb status` shows its state): %w", err)
		}
		return text, nil
	}
	pod, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	params := map[string]string{}
	for name, values := range query {
		params[name] = values[0]
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := s.Pods.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, strconv.Itoa(metricsPort(pod)), path, params).DoRaw(ctx)
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("ask the controller, pod %s/%s: you need \"get\" on \"pods/proxy\" in namespace %s: %w", pod.Namespace, pod.Name, pod.Namespace, err)
	case err != nil:
		return nil, fmt.Errorf("ask the controller, pod %s/%s: %w", pod.Namespace, pod.Name, err)
	case len(text) > answerAtMost:
		return nil, fmt.Errorf("ask the controller, pod %s/%s: its answer is longer than %d bytes", pod.Namespace, pod.Name, answerAtMost)
	}
	return text, nil
}

// leader is the pod of the controller that holds the lease.
func (s *Session) leader(ctx context.Context) (*corev1.Pod, error) {
	lease, err := s.Pods.CoordinationV1().Leases(serving.Namespace).Get(ctx, controllerLease, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("no controller leads: lease %s/%s does not exist; is Ebb installed there? `kubectl get pods -n %s`", serving.Namespace, controllerLease, serving.Namespace)
	case err != nil:
		return nil, s.explain(err, "lease "+serving.Namespace+"/"+controllerLease)
	}
	name, err := holder(lease)
	if err != nil {
		return nil, err
	}
	pod, err := s.Pods.CoreV1().Pods(serving.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("the controller that leads, %s, is no pod in namespace %s: another one takes over when the lease ends", name, serving.Namespace)
		}
		return nil, s.explain(err, "pod "+serving.Namespace+"/"+name)
	}
	return pod, nil
}

// holder is the name of the pod that holds the lease: it is a pod's host name, an
// underscore and a random part.
func holder(lease *coordinationv1.Lease) (string, error) {
	if h := lease.Spec.HolderIdentity; h != nil && *h != "" {
		name, _, _ := strings.Cut(*h, "_")
		return name, nil
	}
	return "", errors.New("no controller leads now: try again in a moment; `kubectl get pods -n " + serving.Namespace + "` shows them")
}

func metricsPort(pod *corev1.Pod) int {
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.Name == metricsPortName {
				return int(p.ContainerPort)
			}
		}
	}
	return defaultMetricPort
}
