package rights

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
	"ebb.dev/ebb/config/install"
	"ebb.dev/ebb/test/e2e/platform"
)

// lead has a controller work as on a cluster: it takes the lease, keeps certificates in Secrets, writes the authority into the
// webhook configurations, and gives the lease back. It is the last that the platform is used for: its own
// controller goes on beside it.
func lead(t *testing.T, p *platform.Platform) {
	ctx := t.Context()
	mutating, validating := admission.Configurations(admission.Target{Namespace: install.Namespace, Service: install.ControllerName, Port: 443})
	for _, o := range []client.Object{mutating, validating} {
		have := o.DeepCopyObject().(client.Object)
		if err := p.Get(ctx, client.ObjectKeyFromObject(o), have); err != nil {
			t.Fatal(err)
		}
		o.SetResourceVersion(have.GetResourceVersion())
		if err := p.Update(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.Ebb, "controller", "--kubeconfig="+filepath.Join(p.Data, "pki", "controller.kubeconfig"), "--namespace="+install.Namespace,
		"--issue-certificates", "--xds-listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--webhook-listen="+free(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	key := func(name string) client.ObjectKey { return client.ObjectKey{Namespace: install.Namespace, Name: name} }
	alive := func() error {
		select {
		case err := <-ended:
			t.Fatalf("the controller ended: %v\n%s", err, &output)
		default:
		}
		return nil
	}
	bundled := func() error {
		var m admissionregistration.MutatingWebhookConfiguration
		var v admissionregistration.ValidatingWebhookConfiguration
		if err := p.Get(ctx, client.ObjectKey{Name: admission.MutatingName}, &m); err != nil {
			return err
		}
		if err := p.Get(ctx, client.ObjectKey{Name: admission.ValidatingName}, &v); err != nil {
			return err
		}
		if len(m.Webhooks[0].ClientConfig.CABundle) == 0 || len(v.Webhooks[0].ClientConfig.CABundle) == 0 {
			return fmt.Errorf("a webhook configuration has no authority: %w", alive())
		}
		return nil
	}
	platform.Until(t, "the controller writes its authority", bundled)
	for _, name := range install.SecretNames() {
		if err := p.Get(ctx, key(name), &corev1.Secret{}); err != nil {
			t.Error(err)
		}
	}
	// One that cannot be used is made anew.
	broken := &corev1.Secret{}
	if err := p.Get(ctx, key("ebb-gateway-tls"), broken); err != nil {
		t.Fatal(err)
	}
	broken.Data[corev1.TLSCertKey] = []byte("nothing")
	if err := p.Update(ctx, broken); err != nil {
		t.Fatal(err)
	}
	platform.Until(t, "the certificate is made anew", func() error {
		if err := p.Get(ctx, key("ebb-gateway-tls"), broken); err != nil {
			return err
		}
		if string(broken.Data[corev1.TLSCertKey]) == "nothing" {
			return fmt.Errorf("it is not: %w", alive())
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the controller ended with %v\n%s", err, &output)
	}
	var lease coordinationv1.Lease
	if err := p.Get(ctx, key(install.LeaseName), &lease); err != nil {
		t.Error(err)
	} else if h := lease.Spec.HolderIdentity; h != nil && *h != "" {
		t.Errorf("%s still holds the lease", *h)
	}
}

// free is an address that nothing listens on.
func free(t *testing.T) string {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
