package credentials

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/trust"
)

// Options of a Keeper. All but Now and Logger are needed.
type Options struct {
	Live      client.Reader // the API server itself: what is read here is seldom read, and must not be old
	Writer    client.Writer
	Namespace string
	// Service is the one by which the kube-apiserver reaches admission.
	Service string
	// Mutating and Validating are the names of the webhook configurations.
	Mutating, Validating string
	Now                  func() time.Time // time.Now when nil
	Logger               *slog.Logger
}

// Keeper keeps the Secrets, and this process's own two in hand.
type Keeper struct {
	opts Options
	// Leading says whether this replica is the one that renews. It is set before Keep is called first.
	Leading func() bool
	// Controller and Webhook are what this process serves gateways and activators, and admission, with.
	Controller, Webhook trust.Held
}

// New makes a Keeper; Prepare it before anything else.
func New(o Options) *Keeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Keeper{opts: o}
}

// Prepare makes the Secrets that are missing, and takes this process's own in hand. Two replicas that start at once
// agree: what exists already is taken as it is.
func (k *Keeper) Prepare(ctx context.Context) error {
	if err := k.ensure(ctx, false); err != nil {
		return err
	}
	return k.load(ctx)
}

// Keep brings everything up to date, when this replica leads, and takes this process's own in hand.
func (k *Keeper) Keep(ctx context.Context) error {
	if !k.Leading() {
		return k.load(ctx)
	}
	if err := k.ensure(ctx, true); err != nil {
		return err
	}
	return errors.Join(k.load(ctx), k.bundles(ctx))
}

// attempts at a write that another replica was quicker with.
const attempts = 5

// ensure makes what is missing and, with renew, renews what is due.
func (k *Keeper) ensure(ctx context.Context, renew bool) error {
	authority, err := k.authority(ctx, renew)
	if err != nil {
		return err
	}
	for _, leaf := range Leaves(k.opts.Namespace, k.opts.Service) {
		if err := k.leaf(ctx, authority, leaf, renew); err != nil {
			return err
		}
	}
	return nil
}

// update reads a Secret, lets change say what it is to hold, and writes that, again when another replica
// wrote meanwhile. A nil answer is for no change.
func (k *Keeper) update(ctx context.Context, name string, change func(have *corev1.Secret) (map[string][]byte, error)) error {
	var err error
	for range attempts {
		secret := &corev1.Secret{}
		err = k.opts.Live.Get(ctx, client.ObjectKey{Namespace: k.opts.Namespace, Name: name}, secret)
		missing := apierrors.IsNotFound(err)
		if err != nil && !missing {
			break
		}
		if missing {
			secret = nil
		}
		data, failed := change(secret)
		if failed != nil || data == nil {
			return failed
		}
		if missing {
			err = k.opts.Writer.Create(ctx, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: k.opts.Namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "ebb"}},
				Type:       corev1.SecretTypeTLS,
				Data:       data,
			})
		} else {
			secret.Data = data
			err = k.opts.Writer.Update(ctx, secret)
		}
		if err == nil || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("certificates: Secret %s/%s: %w", k.opts.Namespace, name, err)
	}
	return nil
}

func (k *Keeper) authority(ctx context.Context, renew bool) (Authority, error) {
	var authority Authority
	err := k.update(ctx, AuthoritySecret, func(have *corev1.Secret) (map[string][]byte, error) {
		authority = Authority{}
		if have != nil {
			var err error
			if authority, err = Read(have.Data[corev1.TLSCertKey], have.Data[corev1.TLSPrivateKeyKey]); err != nil {
				return nil, fmt.Errorf("certificates: Secret %s/%s: %w: delete it, another one is made", k.opts.Namespace, AuthoritySecret, err)
			}
			if !renew && len(authority.pairs) > 0 {
				return nil, nil
			}
		}
		next, changed, err := authority.Next(k.opts.Now(), rand.Reader)
		if err != nil || !changed {
			return nil, err
		}
		keys, err := next.Keys()
		if err != nil {
			return nil, err
		}
		authority = next
		k.opts.Logger.Info("certificates: the authorities change", "believed", len(next.pairs))
		return map[string][]byte{corev1.TLSCertKey: next.Bundle(), corev1.TLSPrivateKeyKey: keys}, nil
	})
	return authority, err
}

// authorities is the key of a Secret's bundle.
const authorities = "ca.crt"

func (k *Keeper) leaf(ctx context.Context, a Authority, l Leaf, renew bool) error {
	return k.update(ctx, l.Secret, func(have *corev1.Secret) (map[string][]byte, error) {
		why := "it is missing"
		if have != nil {
			if !renew {
				return nil, nil
			}
			if why = a.Due(l, have.Data[corev1.TLSCertKey], have.Data[corev1.TLSPrivateKeyKey], k.opts.Now()); why == "" {
				if bytes.Equal(have.Data[authorities], a.Bundle()) {
					return nil, nil
				}
				k.opts.Logger.Info("certificates: other authorities are believed", "secret", l.Secret)
				return map[string][]byte{
					corev1.TLSCertKey: have.Data[corev1.TLSCertKey], corev1.TLSPrivateKeyKey: have.Data[corev1.TLSPrivateKeyKey], authorities: a.Bundle(),
				}, nil
			}
		}
		certificate, key, err := a.Sign(l, k.opts.Now(), rand.Reader)
		if err != nil {
			return nil, err
		}
		k.opts.Logger.Info("certificates: one is signed", "secret", l.Secret, "because", why)
		return map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, authorities: a.Bundle()}, nil
	})
}

// load takes this process's own in hand.
func (k *Keeper) load(ctx context.Context) error {
	for name, held := range map[string]*trust.Held{ControllerSecret: &k.Controller, WebhookSecret: &k.Webhook} {
		var secret corev1.Secret
		if err := k.opts.Live.Get(ctx, client.ObjectKey{Namespace: k.opts.Namespace, Name: name}, &secret); err != nil {
			return fmt.Errorf("certificates: Secret %s/%s: %w", k.opts.Namespace, name, err)
		}
		m, err := trust.Parse(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[authorities])
		if err != nil {
			return fmt.Errorf("certificates: Secret %s/%s: %w", k.opts.Namespace, name, err)
		}
		held.Set(m)
	}
	return nil
}

// bundles puts what admission's certificate is verified with into the webhook configurations. One that is not
// there is not made; one that goes to an address outside of the cluster has its own.
func (k *Keeper) bundles(ctx context.Context) error {
	var secret corev1.Secret
	if err := k.opts.Live.Get(ctx, client.ObjectKey{Namespace: k.opts.Namespace, Name: WebhookSecret}, &secret); err != nil {
		return fmt.Errorf("certificates: Secret %s/%s: %w", k.opts.Namespace, WebhookSecret, err)
	}
	bundle := secret.Data[authorities]
	set := func(c *admissionv1.WebhookClientConfig) bool {
		if c.Service == nil || c.Service.Namespace != k.opts.Namespace || bytes.Equal(c.CABundle, bundle) {
			return false
		}
		c.CABundle = slices.Clone(bundle)
		return true
	}
	mutating, validating := &admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}
	return errors.Join(
		k.bundle(ctx, k.opts.Mutating, mutating, func() (changed bool) {
			for i := range mutating.Webhooks {
				changed = set(&mutating.Webhooks[i].ClientConfig) || changed
			}
			return changed
		}),
		k.bundle(ctx, k.opts.Validating, validating, func() (changed bool) {
			for i := range validating.Webhooks {
				changed = set(&validating.Webhooks[i].ClientConfig) || changed
			}
			return changed
		}))
}

func (k *Keeper) bundle(ctx context.Context, name string, into client.Object, set func() bool) error {
	err := k.opts.Live.Get(ctx, client.ObjectKey{Name: name}, into)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil && set() {
		err = k.opts.Writer.Update(ctx, into)
	}
	if err != nil {
		return fmt.Errorf("certificates: caBundle of the %T %s: %w", into, name, err)
	}
	return nil
}
