//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ebb.dev/ebb/cmd/ebb/image"
)

// smokePods are two programs under a Service, one of which is called through the other.
const smokePods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: %[1]s
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: none}
spec: {selector: {app: nobody}, ports: [{port: 80, targetPort: 8080}]}
`

const smokeDeadline = 90 * time.Second

// smoke proves that the node does what tests rely on, a line for each thing.
func (h *home) smoke(ctx context.Context) error {
	if _, err := h.pid1(); err != nil {
		return err
	}
	ref, err := image.Build(ctx, filepath.Join(filepath.Dir(h.bin), "test", "app"), h.pushTo(), "smoke-app")
	if err != nil {
		return err
	}
	ref = strings.Replace(ref, h.pushTo(), h.Registry(), 1)
	const namespace = "smoke"
	kubectl := func(input string, args ...string) (string, error) {
		return output(ctx, input, h.path("bin", "kubectl"), append([]string{"--kubeconfig", h.kubeconfig(), "-n", namespace}, args...)...)
	}
	inside := func(args ...string) (string, error) {
		return output(ctx, "", "/proc/self/exe", append(h.flags("run"), args...)...)
	}
	if _, err := kubectl("", "create", "namespace", namespace); err != nil {
		return err
	}
	defer func() { _, _ = kubectl("", "delete", "namespace", namespace) }()
	if _, err := kubectl(fmt.Sprintf(smokePods, ref), "apply", "-f", "-"); err != nil {
		return err
	}
	var pod, podIP string
	failed := 0
	for _, c := range []struct {
		what string
		is   func() error
	}{
		{"an image that the machine pushed is pulled by digest, and two pods are Ready", func() error {
			_, err := kubectl("", "rollout", "status", "deployment/app", "--timeout=60s")
			return err
		}},
		{"a pod answers on its address", func() error {
			out, err := kubectl("", "get", "pods", "-l", "app=app", "-o", "jsonpath={.items[0].metadata.name} {.items[0].status.podIP}")
			if err != nil {
				return err
			}
			pod, podIP, _ = strings.Cut(out, " ")
			_, err = inside("curl", "-sSf", "-m5", "http://"+podIP+":8080/")
			return err
		}},
		{"a Service answers by its name", func() error {
			_, err := inside("curl", "-sSf", "-m5", "http://app.smoke.svc.cluster.local/")
			return err
		}},
		{"a Service without pods refuses at once", func() error {
			_, err := inside("curl", "-sS", "-m5", "http://none.smoke.svc.cluster.local/")
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 7 {
				return fmt.Errorf("curl is to be refused, exit code 7: %w", err)
			}
			return nil
		}},
		{"logs", func() error {
			out, err := kubectl("", "logs", pod)
			if err == nil && !strings.Contains(out, "listens on") {
				err = fmt.Errorf("the log is %q", out)
			}
			return err
		}},
		{"a memory limit holds: OOMKilled, and started again", func() error {
			_, _ = inside("curl", "-sS", "-m10", "-XPOST", "http://"+podIP+":8080/hold?mi=100")
			_, err := kubectl("", "wait", "pod/"+pod, "--for=jsonpath={.status.containerStatuses[0].lastState.terminated.reason}=OOMKilled", "--timeout=60s")
			return err
		}},
		{"a pod that is deleted is replaced", func() error {
			if _, err := kubectl("", "delete", "pod", pod); err != nil {
				return err
			}
			_, err := kubectl("", "rollout", "status", "deployment/app", "--timeout=60s")
			return err
		}},
	} {
		if err := c.is(); err != nil {
			fmt.Printf("FAIL %s: %v\n", c.what, err)
			failed++
		} else {
			fmt.Printf("ok   %s\n", c.what)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d failed", failed)
	}
	return nil
}

func output(ctx context.Context, input, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, smokeDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", filepath.Base(args[len(args)-1]), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}
