package user

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// LogsCommand is `ebb logs`.
func LogsCommand() *cobra.Command {
	var f Flags
	o := logOptions{}
	cmd := &cobra.Command{
		Use: "logs NAME", Short: "Show what the pods of a service write",
		Long:    "Show what the pods of a service write. With several pods each line begins with the pod's name.",
		Example: "  ebb logs hello\n  ebb logs hello -f\n  ebb logs hello --revision hello-00002 --tail 100",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			if _, err := s.service(cmd.Context(), args[0]); err != nil {
				return err
			}
			if o.revision != "" {
				revisions, err := s.revisionsOf(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(revisions, func(r v1.Revision) bool { return r.Name == o.revision }) {
					return fmt.Errorf("service %s has no revision %q: `ebb revisions %s` lists them", args[0], o.revision, args[0])
				}
			}
			return s.logs(cmd.Context(), args[0], o)
		},
	}
	f.Add(cmd)
	p := cmd.Flags()
	p.BoolVarP(&o.follow, "follow", "f", false, "go on, with pods that come later too")
	p.BoolVarP(&o.previous, "previous", "p", false, "of the container before its last restart")
	p.Int64Var(&o.tail, "tail", -1, "last `LINES` of each pod; -1 for all")
	p.StringVar(&o.revision, "revision", "", "only pods of this `REVISION`")
	p.StringVarP(&o.container, "container", "c", "", "`NAME` of the container; else the one that serves")
	p.BoolVar(&o.timestamps, "timestamps", false, "each line with its time")
	return cmd
}

type logOptions struct {
	follow, previous, timestamps bool
	tail                         int64
	revision, container          string
}

func (s *Session) logs(ctx context.Context, name string, o logOptions) error {
	labels := ofService(name)
	if o.revision != "" {
		labels[serving.RevisionLabel] = o.revision
	}
	var list corev1.PodList
	if err := s.List(ctx, &list, inNamespace(s), labels); err != nil {
		return s.explain(err, "list pods")
	}
	out := &lines{w: s.Out}
	if !o.follow {
		if len(list.Items) == 0 {
			fmt.Fprintf(s.Err, "Service %s has no pods now: it is at zero. A call starts one; -f waits for it.\n", name)
			return nil
		}
		slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		var errs []error
		for i := range list.Items {
			prefix := ""
			if len(list.Items) > 1 {
				prefix = list.Items[i].Name + "  "
			}
			errs = append(errs, s.copyLog(ctx, &list.Items[i], o, out, prefix))
		}
		return errors.Join(errs...)
	}
	return s.followLogs(ctx, labels, o, out)
}

// followLogs reads each pod's log from the moment its container runs.
func (s *Session) followLogs(ctx context.Context, labels map[string]string, o logOptions, out *lines) error {
	seen := map[string]bool{}
	var readers sync.WaitGroup
	defer readers.Wait()
	for ctx.Err() == nil {
		w, err := s.Watch(ctx, &corev1.PodList{}, inNamespace(s), client.MatchingLabels(labels))
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return s.explain(err, "watch pods")
		}
		for event := range w.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Deleted || seen[string(pod.UID)] || !started(pod, o.container) {
				continue
			}
			seen[string(pod.UID)] = true
			prefix := ""
			if len(seen) > 1 {
				prefix = pod.Name + "  "
			}
			readers.Go(func() {
				if err := s.copyLog(ctx, pod, o, out, prefix); err != nil && ctx.Err() == nil {
					fmt.Fprintln(s.Err, err)
				}
			})
		}
		select { // the watch ended: again
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

func started(pod *corev1.Pod, container string) bool {
	if container == "" {
		container = mainContainer(pod)
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == container {
			return c.State.Running != nil || c.State.Terminated != nil || c.RestartCount > 0
		}
	}
	return false
}

// mainContainer is the one with a port, else the first.
func mainContainer(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if len(c.Ports) > 0 {
			return c.Name
		}
	}
	if len(pod.Spec.Containers) > 0 {
		return pod.Spec.Containers[0].Name
	}
	return ""
}

func (s *Session) copyLog(ctx context.Context, pod *corev1.Pod, o logOptions, out *lines, prefix string) error {
	options := &corev1.PodLogOptions{Container: o.container, Follow: o.follow, Previous: o.previous, Timestamps: o.timestamps}
	if options.Container == "" {
		options.Container = mainContainer(pod)
	}
	if o.tail >= 0 {
		options.TailLines = &o.tail
	}
	stream, err := s.Pods.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return fmt.Errorf("logs of pod %s: %w", pod.Name, err)
	}
	defer stream.Close()
	reader := bufio.NewReaderSize(stream, 64<<10)
	for {
		line, err := reader.ReadString('\n')
		if line != "" {
			out.write(prefix + strings.TrimSuffix(line, "\n"))
		}
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("logs of pod %s: %w", pod.Name, err)
		}
	}
}

// lines keeps the lines of several pods whole.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, line)
}
