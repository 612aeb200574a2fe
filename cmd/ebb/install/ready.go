package install

import (
	"cmp"
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
		switch o.(type) {
		case *appsv1.Deployment, *appsv1.StatefulSet:
			if !i.wait {
				i.say.Line("%s: written, not waited for", o.GetName())
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

// rollout is how far the pods of a part are.
type rollout struct {
	wanted, updated, available, all int32
	seen                            bool   // its controller has seen its present form
	refused                         string // why no pod can be made
}

// rolloutOf a Deployment or a StatefulSet.
func (i *installer) rolloutOf(ctx context.Context, of client.Object) (rollout, error) {
	if _, ok := of.(*appsv1.StatefulSet); ok {
		var s appsv1.StatefulSet
		err := i.Get(ctx, client.ObjectKeyFromObject(of), &s)
		if err != nil {
			return rollout{}, err
		}
		return rollout{*s.Spec.Replicas, s.Status.UpdatedReplicas, s.Status.AvailableReplicas, s.Status.Replicas, s.Status.ObservedGeneration >= s.Generation, ""}, nil
	}
	var d appsv1.Deployment
	if err := i.Get(ctx, client.ObjectKeyFromObject(of), &d); err != nil {
		return rollout{}, err
	}
	r := rollout{*d.Spec.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas, d.Status.Replicas, d.Status.ObservedGeneration >= d.Generation, ""}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			r.refused = "no pod can be made: " + c.Message
		}
	}
	return r, nil
}

// rolledOut waits until all pods of a part are those of its template and ready.
func (i *installer) rolledOut(ctx context.Context, want client.Object) error {
	part := strings.TrimPrefix(want.GetName(), "ebb-")
	var said, wrong, told string
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		r, err := i.rolloutOf(ctx, want)
		if err != nil {
			wrong = err.Error()
			return false, nil //nolint:nilerr // it is asked again
		}
		if text := fmt.Sprintf("%s: %d of %d ready", part, min(r.available, r.updated), r.wanted); text != said {
			said = text
			i.say.Line("%s", text)
		}
		if r.seen && r.updated == r.wanted && r.available == r.wanted && r.all == r.wanted {
			return true, nil
		}
		// Once a trouble: Kubernetes says the same in other words again and again.
		wrong = cmp.Or(r.refused, i.trouble(ctx, part))
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
		return fmt.Errorf("%s is not ready: interrupted; `ebb install` goes on where it was", want.GetName())
	case wrong == "":
		return fmt.Errorf("%s is not ready in time (--timeout): `kubectl describe pods -n %s -l %s=%s` says more; `ebb install` goes on where it was", want.GetName(), objects.Namespace, objects.ComponentLabel, part)
	}
	return fmt.Errorf("%s is not ready in time (--timeout): %s; `ebb install` goes on where it was", want.GetName(), wrong)
}

// trouble is what keeps the pods of a part from being ready, and what to do; "" for nothing that is known.
func (i *installer) trouble(ctx context.Context, part string) string {
	var pods corev1.PodList
	of := client.MatchingLabels{objects.PartOfLabel: objects.PartOf, objects.ComponentLabel: part}
	if err := i.List(ctx, &pods, client.InNamespace(objects.Namespace), of); err != nil {
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
