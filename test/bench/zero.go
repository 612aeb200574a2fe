package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const settle = "autoscaling.knative.dev/window"

// fromZero measures the first request of a service without pods, and beside it the
// floor: a plain Deployment of the same image scaled from 0 to 1 and asked on its own port.
func (b *bench) fromZero(ctx context.Context, n int) error {
	const services = 10
	grace := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ebb-system", Name: "config-autoscaler"}}
	if err := b.Get(ctx, client.ObjectKeyFromObject(&grace), &grace); err != nil {
		return err
	}
	grace.Data["scale-to-zero-grace-period"] = "6s"
	if err := b.Update(ctx, &grace); err != nil {
		return err
	}
	for i := range services {
		if err := b.service(ctx, fmt.Sprintf("zero-%d", i), map[string]string{settle: "6s"}, nil); err != nil {
			return err
		}
	}
	if err := b.service(ctx, "never", map[string]string{settle: "6s", "autoscaling.knative.dev/initial-scale": "0"}, nil); err != nil {
		return err
	}
	floor, err := b.plainDeployment(ctx)
	if err != nil {
		return err
	}
	first, err := b.get(ctx, "never")
	if err != nil {
		return err
	}
	var cold, bare, ratio []float64
	for len(cold) < n {
		for i := 0; i < services && len(cold) < n; i++ {
			name := fmt.Sprintf("zero-%d", i)
			if err := b.noPods(ctx, name); err != nil {
				return err
			}
			took, err := b.get(ctx, name)
			if err != nil {
				return err
			}
			plain, err := floor(ctx)
			if err != nil {
				return err
			}
			cold, bare = append(cold, milliseconds(took)), append(bare, milliseconds(plain))
			ratio = append(ratio, float64(took)/float64(plain))
		}
	}
	b.add("from zero: first request of a service at zero", "ms", cold...)
	b.add("floor: plain Deployment 0 to 1, same image, its own port", "ms", bare...)
	b.add("from zero over the floor", "x", ratio...)
	b.add("from zero: first activation after initial-scale 0", "ms", milliseconds(first))
	return nil
}

// get calls a service once on a connection of its own.
func (b *bench) get(ctx context.Context, name string) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.running.Gateway+"/", nil)
	if err != nil {
		return 0, err
	}
	request.Host = name + ".default.localhost"
	request.Close = true
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answered %s: %.200s", name, response.Status, body)
	}
	return time.Since(began), nil
}

func (b *bench) noPods(ctx context.Context, service string) error {
	return until(ctx, service+" is at zero", func() (bool, error) {
		var pods corev1.PodList
		err := b.List(ctx, &pods, client.InNamespace("default"), client.MatchingLabels{"serving.knative.dev/service": service})
		return err == nil && len(pods.Items) == 0, err
	})
}

// plainDeployment makes a Deployment at zero and returns a function that scales it to one,
// waits for an answer, scales it back and waits until it is gone.
func (b *bench) plainDeployment(ctx context.Context) (func(context.Context) (time.Duration, error), error) {
	labels := map[string]string{"floor": "yes"}
	var zero, grace int64 = 0, 1
	replicas := int32(zero)
	no := false
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "floor"},
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
	if err := b.Create(ctx, deployment); err != nil {
		return nil, err
	}
	clients, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return nil, err
	}
	watch, err := clients.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "floor=yes"})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	scale := func(n int) error {
		patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, n)
		_, err := clients.AppsV1().Deployments("default").Patch(ctx, deployment.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "scale")
		return err
	}
	return func(ctx context.Context) (time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		began := time.Now()
		if err := scale(1); err != nil {
			return 0, err
		}
		var took time.Duration
		for e := range watch.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				return 0, fmt.Errorf("watch of the floor's pods: %v", e.Object)
			}
			if e.Type == "DELETED" {
				break
			}
			port := pod.Annotations["ebb.dev/port"]
			if took > 0 || pod.Status.PodIP == "" || port == "" {
				continue
			}
			for {
				response, err := http.Get("http://" + net.JoinHostPort(pod.Status.PodIP, port) + "/")
				if err == nil {
					response.Body.Close()
					break
				}
				if time.Since(began) > time.Minute {
					return 0, err
				}
				time.Sleep(time.Millisecond)
			}
			took = time.Since(began)
			if err := scale(0); err != nil {
				return 0, err
			}
		}
		return took, nil
	}, nil
}
