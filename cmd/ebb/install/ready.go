package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	objects "ebb.dev/ebb/config/install"
)

const lookEvery = 250 * time.Millisecond

// ready waits until a stage works: kinds are served, pods are ready and those of before are gone from the Deployment.
func (i *installer) ready(ctx context.Context, stage objects.Stage) error {
	for _, o := range stage.Objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			if !i.wait {
				i.say.Line("%s: written, not waited for", o.Name)
				continue
			}
			if err := i.rolledOut(ctx, o); err != nil {
				return err
			}
		default:
			if o.GetObjectKind().GroupVersionKind() == kindOfKinds {
				if err := i.established(ctx, o.GetName()); err != nil {
					return err
				}
			}
		}
	}
	if stage.Name == objects.Kinds {
		i.say.Line("%d kinds are served", len(stage.Objects))
	}
	return nil
}

// established waits until a kind is served; nothing of it can be written before.
func (i *installer) established(ctx context.Context, name string) error {
	kind := &unstructured.Unstructured{}
	kind.SetGroupVersionKind(kindOfKinds)
	said := "it has no conditions yet"
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		if err := i.Get(ctx, client.ObjectKey{Name: name}, kind); err != nil {
			said = err.Error()
			return false, nil //nolint:nilerr // it is asked again
		}
		conditions, _, _ := unstructured.NestedSlice(kind.Object, "status", "conditions")
		for _, c := range conditions {
			c, _ := c.(map[string]any)
			switch {
			case c["type"] == "Established" && c["status"] == "True":
				return true, nil
			case c["type"] == "NamesAccepted" && c["status"] == "False":
				said = fmt.Sprint(c["message"])
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("kind %s is not served: %s (`kubectl describe crd %s`)", name, said, name)
	}
	return nil
}

// rolledOut waits until all pods of a Deployment are those of its template and ready.
func (i *installer) rolledOut(ctx context.Context, want *appsv1.Deployment) error {
	part := strings.TrimPrefix(want.Name, "ebb-")
	var said, wrong, told string
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		var d appsv1.Deployment
		if err := i.Get(ctx, client.ObjectKeyFromObject(want), &d); err != nil {
			wrong = err.Error()
			return false, nil //nolint:nilerr // it is asked again
		}
		wanted := *d.Spec.Replicas
		done := d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == wanted && d.Status.AvailableReplicas == wanted && d.Status.Replicas == wanted
		if text := fmt.Sprintf("%s: %d of %d ready", part, min(d.Status.AvailableReplicas, d.Status.UpdatedReplicas), wanted); text != said {
			said = text
			i.say.Line("%s", text)
		}
		if done {
			return true, nil
		}
		// Once a trouble: Kubernetes says the same in other words again and again.
		wrong = i.trouble(ctx, &d)
		if what, _, _ := strings.Cut(wrong, ": "); what != told {
			if told = what; wrong != "" {
				i.say.Line("%s: %s", part, wrong)
			}
		}
		return false, nil
	})
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("%s is not ready: interrupted; `ebb install` goes on where it was", want.Name)
	case wrong == "":
		return fmt.Errorf("%s is not ready in time (--timeout): `kubectl describe pods -n %s -l %s=%s` says more; `ebb install` goes on where it was", want.Name, objects.Namespace, objects.ComponentLabel, part)
	}
	return fmt.Errorf("%s is not ready in time (--timeout): %s; `ebb install` goes on where it was", want.Name, wrong)
}

// trouble is what keeps the pods of a Deployment from being ready, and what to do; "" for nothing that is known.
func (i *installer) trouble(ctx context.Context, d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return "no pod can be made: " + c.Message
		}
	}
	var pods corev1.PodList
	if err := i.List(ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)); err != nil {
		return ""
	}
	for n := range pods.Items {
		if text := troubleOf(&pods.Items[n]); text != "" {
			return text
		}
	}
	return ""
}

func troubleOf(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("no node takes pod %s: %s", pod.Name, c.Message)
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		w := c.State.Waiting
		if w == nil {
			continue
		}
		switch w.Reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
			return fmt.Sprintf("image %s cannot be pulled: %s; is it there (`make images` pushes it), and can the nodes read it (--pull-secret)?", c.Image, w.Message)
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
			return fmt.Sprintf("pod %s cannot start: %s", pod.Name, w.Message)
		case "CrashLoopBackOff":
			text := fmt.Sprintf("pod %s ends again and again", pod.Name)
			if t := c.LastTerminationState.Terminated; t != nil {
				text += fmt.Sprintf(", with code %d: %s", t.ExitCode, lastLine(t.Message))
			}
			return text + fmt.Sprintf(" (`kubectl logs -n %s %s --previous`)", pod.Namespace, pod.Name)
		}
	}
	return ""
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
