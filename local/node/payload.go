package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	auth "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/secret"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// payload is the content of a volume by path inside of it.
type payload map[string]volumeutil.FileProjection

// contents reads what a volume of the kinds that have contents is to hold now.
func (v *volumes) contents(s *v1.VolumeSource) (payload, error) {
	switch {
	case s.ConfigMap != nil:
		return v.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.DefaultMode, s.ConfigMap.Optional)
	case s.Secret != nil:
		return v.secret(s.Secret.SecretName, s.Secret.Items, s.Secret.DefaultMode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return v.downward(s.DownwardAPI.Items, s.DownwardAPI.DefaultMode)
	}
	all, mode := payload{}, s.Projected.DefaultMode
	for _, s := range s.Projected.Sources {
		var part payload
		var err error
		switch {
		case s.ConfigMap != nil:
			part, err = v.configMap(s.ConfigMap.Name, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
		case s.Secret != nil:
			part, err = v.secret(s.Secret.Name, s.Secret.Items, mode, s.Secret.Optional)
		case s.DownwardAPI != nil:
			part, err = v.downward(s.DownwardAPI.Items, mode)
		case s.ServiceAccountToken != nil:
			part, err = v.token(s.ServiceAccountToken, mode)
		default:
			err = errors.New("a projected source that this node does not have: use configMap, secret, downwardAPI or serviceAccountToken")
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(all, part)
	}
	return all, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

func (v *volumes) configMap(name string, items []v1.KeyToPath, mode *int32, optional *bool) (payload, error) {
	o := v.p.object()
	ctx, cancel := context.WithTimeout(v.p.n.ctx, secretTimeout)
	defer cancel()
	m, err := v.p.n.client.CoreV1().ConfigMaps(o.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && isTrue(optional) {
		m, err = &v1.ConfigMap{}, nil
	}
	if err != nil {
		return nil, err
	}
	return configmap.MakePayload(items, m, mode, isTrue(optional))
}

func (v *volumes) secret(name string, items []v1.KeyToPath, mode *int32, optional *bool) (payload, error) {
	o := v.p.object()
	ctx, cancel := context.WithTimeout(v.p.n.ctx, secretTimeout)
	defer cancel()
	m, err := v.p.n.client.CoreV1().Secrets(o.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && isTrue(optional) {
		m, err = &v1.Secret{}, nil
	}
	if err != nil {
		return nil, err
	}
	return secret.MakePayload(items, m, mode, isTrue(optional))
}

func (v *volumes) downward(items []v1.DownwardAPIVolumeFile, mode *int32) (payload, error) {
	out := payload{}
	for _, i := range items {
		var text string
		var err error
		switch {
		case i.FieldRef != nil:
			text, err = v.p.field(i.FieldRef.FieldPath)
		case i.ResourceFieldRef != nil:
			text, err = v.p.mains[0].resource(i.ResourceFieldRef)
		}
		if err != nil {
			return nil, err
		}
		f := volumeutil.FileProjection{Data: []byte(text), Mode: 0o644}
		if mode != nil {
			f.Mode = *mode
		}
		if i.Mode != nil {
			f.Mode = *i.Mode
		}
		out[i.Path] = f
	}
	return out, nil
}

// issued is a token of a service account and when to ask for the next one.
type issued struct {
	token string
	renew time.Time
}

// renewAt is when a token is replaced: after four fifths of its life, and a long-lived
// one once a day.
func renewAt(now, expires time.Time) time.Time {
	life := expires.Sub(now)
	return now.Add(min(life*4/5, 24*time.Hour))
}

func (v *volumes) token(s *v1.ServiceAccountTokenProjection, mode *int32) (payload, error) {
	p := v.p
	select { // a token is given for a pod that is bound
	case <-p.bound:
	case <-p.n.ctx.Done():
		return nil, p.n.ctx.Err()
	}
	key := s.Audience + " " + s.Path
	now := time.Now()
	if v.tokens[key].renew.Before(now) {
		o := p.object()
		ctx, cancel := context.WithTimeout(p.n.ctx, secretTimeout)
		defer cancel()
		q := &auth.TokenRequest{Spec: auth.TokenRequestSpec{ExpirationSeconds: s.ExpirationSeconds,
			BoundObjectRef: &auth.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: o.Name, UID: o.UID}}}
		if s.Audience != "" {
			q.Spec.Audiences = []string{s.Audience}
		}
		account := o.Spec.ServiceAccountName
		if account == "" {
			account = "default"
		}
		t, err := p.n.client.CoreV1().ServiceAccounts(o.Namespace).CreateToken(ctx, account, q, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("token of service account %s: %w", account, err)
		}
		v.tokens[key] = issued{t.Status.Token, renewAt(now, t.Status.ExpirationTimestamp.Time)}
	}
	f := volumeutil.FileProjection{Data: []byte(v.tokens[key].token), Mode: 0o644}
	if mode != nil {
		f.Mode = *mode
	}
	if p.n.mayOwn() { // nobody else need read it where it is known who will
		if uid := p.oneUser(); uid != nil {
			f.FsUser, f.Mode = uid, 0o600
		}
		if p.fsGroup() != nil {
			f.Mode = 0o600 // the group's bit comes with the group
		}
	}
	return payload{s.Path: f}, nil
}

// renewal is when the first token is to be replaced; zero when there is none.
func (v *volumes) renewal() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	var first time.Time
	for _, t := range v.tokens {
		if first.IsZero() || t.renew.Before(first) {
			first = t.renew
		}
	}
	return first
}

// mayOwn tells whether files can be given to other users and groups.
func (n *Node) mayOwn() bool { return os.Getuid() == 0 && !n.iso.Users }

func (p *pod) fsGroup() *int64 {
	if s := p.object().Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// oneUser is the user that all containers of the pod are told to run as, or nil.
func (p *pod) oneUser() *int64 {
	o := p.object()
	var uid *int64
	for i, c := range p.all() {
		var u *int64
		if s := o.Spec.SecurityContext; s != nil {
			u = s.RunAsUser
		}
		if s := c.spec.SecurityContext; s != nil && s.RunAsUser != nil {
			u = s.RunAsUser
		}
		if u == nil || i > 0 && *u != *uid {
			return nil
		}
		uid = u
	}
	return uid
}

// share gives a tree to the pod's group as Kubernetes says: readable by it, writable
// too when the volume is, and what is made in its folders later is the group's as well.
func share(root string, gid int64, readOnly bool) error {
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		if err := os.Lchown(path, -1, int(gid)); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o660
		if readOnly {
			mode = info.Mode().Perm() | 0o440
		}
		if d.IsDir() {
			mode |= 0o110 | os.ModeSetgid
		}
		return os.Chmod(path, mode)
	})
}
