//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"ebb.dev/ebb/cmd/ebb/supervise"
)

const partDeadline = 3 * time.Minute

// manager starts the programs of a node, in its namespaces, and keeps them running.
type manager struct {
	*home
	spawner *supervise.Spawner
	began   time.Time
	tell    *os.File // lines of progress; closed when the node is ready
}

// manage is the node's second process. File 3 gets lines of progress.
func (h *home) manage(ctx context.Context) error {
	m := &manager{home: h, spawner: supervise.NewSpawner(), began: time.Now(), tell: os.NewFile(3, "progress")}
	syscall.CloseOnExec(3)
	if err := syscall.Sethostname([]byte(nodeName)); err != nil {
		return err
	}
	if err := h.write(); err != nil {
		return err
	}
	if err := h.mounts(); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	if err := m.start(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(h.path("ready"), nil, 0o644); err != nil {
		return err
	}
	m.progress("KUBECONFIG=%s; push images to %s, pods name them %s", h.kubeconfig(), h.pushTo(), h.Registry())
	m.tell.Close()
	<-ctx.Done()
	return nil
}

func (m *manager) progress(format string, args ...any) {
	fmt.Fprintf(m.tell, "%6.1f s  %s\n", time.Since(m.began).Seconds(), fmt.Sprintf(format, args...))
}

func (m *manager) start(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig())
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := m.linkKubectl(); err != nil {
		return err
	}
	api := func(ctx context.Context) error { return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() }
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.run(ctx, m.etcd()) })
	g.Go(func() error {
		if err := m.run(ctx, m.registry()); err != nil {
			return err
		}
		for _, program := range []string{"pause", "dns"} {
			if err := m.push(ctx, program); err != nil {
				return err
			}
		}
		m.progress("images pushed")
		return nil
	})
	runtime := make(chan struct{})
	g.Go(func() error {
		defer close(runtime)
		return m.run(ctx, m.containerd())
	})
	g.Go(func() error {
		if err := m.run(ctx, m.apiserver(api)); err != nil {
			return err
		}
		for _, spec := range []supervise.Spec{m.controllers(), m.scheduler(), m.proxy(), m.metrics()} {
			g.Go(func() error { return m.run(ctx, spec) })
		}
		<-runtime
		return m.run(ctx, m.kubelet())
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return m.await(context.WithoutCancel(ctx), client)
}

// await waits until the node takes pods and names are known.
func (m *manager) await(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, partDeadline)
	defer cancel()
	until := func(what string, is func() (bool, error)) error {
		var last error
		err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (ok bool, _ error) {
			ok, last = is()
			return ok, nil
		})
		if err != nil {
			return fmt.Errorf("wait until %s: %w (%w)", what, err, last)
		}
		m.progress("%s", what)
		return nil
	}
	err := until("the node is Ready", func() (bool, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.Status == corev1.ConditionTrue, fmt.Errorf("node %s: %s", nodeName, c.Message)
			}
		}
		return false, fmt.Errorf("node %s has no condition Ready", nodeName)
	})
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, m.path("bin", "kubectl"), "--kubeconfig", m.kubeconfig(), "apply", "-f", m.path("etc", "dns.yaml"), "-f", m.path("etc", "metrics.yaml")).CombinedOutput(); err != nil {
		return fmt.Errorf("apply dns.yaml, metrics.yaml: %w: %s", err, out)
	}
	return until("names are served", func() (bool, error) {
		d, err := client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentAvailable {
				return c.Status == corev1.ConditionTrue, fmt.Errorf("deployment coredns: %s", c.Message)
			}
		}
		return false, fmt.Errorf("deployment coredns has no condition Available")
	})
}

// linkKubectl makes kubectl available to commands in the node.
func (m *manager) linkKubectl() error {
	link := m.path("bin", "kubectl")
	_ = os.Remove(link)
	return os.Symlink(filepath.Join(m.bin, "ebb-kube"), link)
}

func (m *manager) run(ctx context.Context, spec supervise.Spec) error {
	child, err := supervise.Start(m.spawner, spec, func(e supervise.Event) {
		if e.Again {
			fmt.Fprintf(os.Stderr, "%s runs again, pid %d\n", e.Name, e.PID)
		} else {
			fmt.Fprintf(os.Stderr, "%s ended (%s), again in %s\n", e.Name, e.Cause, e.Pause)
		}
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, partDeadline)
	defer cancel()
	if err := child.WaitReady(ctx); err != nil {
		return err
	}
	m.progress("%s runs", spec.Name)
	return nil
}
