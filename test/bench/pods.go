package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
)

// pods of the Service of that name, or of all whose names begin with it when it ends in a hyphen.
func (b *bench) pods(ctx context.Context, of string) ([]corev1.Pod, error) {
	var all corev1.PodList
	if err := b.List(ctx, &all, client.InNamespace(namespace), client.HasLabels{serving.ServiceLabel}); err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, p := range all.Items {
		if name := p.Labels[serving.ServiceLabel]; name == of || strings.HasSuffix(of, "-") && strings.HasPrefix(name, of) {
			pods = append(pods, p)
		}
	}
	return pods, nil
}

// address at which the node runs the pod's program; empty while it is not known.
func address(pod *corev1.Pod) string {
	port := pod.Annotations[serving.PortAnnotation] // of the embedded default
	for _, c := range pod.Spec.Containers {
		if port == "" && len(c.Ports) > 0 {
			port = fmt.Sprint(c.Ports[0].ContainerPort)
		}
	}
	if pod.Status.PodIP == "" || port == "" {
		return ""
	}
	return net.JoinHostPort(pod.Status.PodIP, port)
}

// plain is a Deployment of the same image with nothing around it: the floor.
type plain struct {
	clients kubernetes.Interface
	watch   watch.Interface
}

const plainName = "floor"

// plain makes the Deployment, at zero.
func (b *bench) plain(ctx context.Context) (*plain, error) {
	clients, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return nil, err
	}
	d := b.deployment(namespace, plainName, 0)
	if err := client.IgnoreAlreadyExists(b.Create(ctx, d)); err != nil {
		return nil, err
	}
	w, err := clients.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "floor=" + plainName})
	if err != nil {
		return nil, err
	}
	return &plain{clients, w}, nil
}

func (b *bench) deployment(namespace, name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"floor": name}
	grace, no := int64(1), false
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					AutomountServiceAccountToken:  &no,
					TerminationGracePeriodSeconds: &grace,
					Containers: []corev1.Container{{
						Name: "app", Image: b.image,
						Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
						Env:   []corev1.EnvVar{{Name: "PORT", Value: "8080"}},
					}},
				},
			},
		},
	}
}

func (p *plain) close() { p.watch.Stop() }

func (p *plain) scale(ctx context.Context, n int) error {
	_, err := p.clients.AppsV1().Deployments(namespace).Patch(ctx, plainName, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n), metav1.PatchOptions{}, "scale")
	return err
}

// up scales to one and returns the pod's address and how long it took until the pod
// answered there.
func (p *plain) up(ctx context.Context) (string, time.Duration, error) {
	began := time.Now()
	if err := p.scale(ctx, 1); err != nil {
		return "", 0, err
	}
	for {
		pod, kind, err := p.next(ctx)
		if err != nil {
			return "", 0, err
		}
		at := address(pod)
		if at == "" || kind == watch.Deleted {
			continue
		}
		for {
			if a := ask(ctx, at, "floor"); a.err == nil {
				return at, time.Since(began), nil
			} else if ctx.Err() != nil || time.Since(began) > patience {
				return "", 0, a.err
			}
			time.Sleep(500 * time.Microsecond)
		}
	}
}

// down scales to zero and waits until the pod is gone.
func (p *plain) down(ctx context.Context) error {
	if err := p.scale(ctx, 0); err != nil {
		return err
	}
	for {
		_, kind, err := p.next(ctx)
		if err != nil || kind == watch.Deleted {
			return err
		}
	}
}

func (p *plain) next(ctx context.Context) (*corev1.Pod, watch.EventType, error) {
	select {
	case <-ctx.Done():
		return nil, "", ctx.Err()
	case <-time.After(patience):
		return nil, "", fmt.Errorf("waited %s for the pod of the plain Deployment", patience)
	case e, open := <-p.watch.ResultChan():
		pod, is := e.Object.(*corev1.Pod)
		if !open || !is {
			return nil, "", fmt.Errorf("the watch of the plain Deployment's pods ended: %v", e.Object)
		}
		return pod, e.Type, nil
	}
}
