package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ebb.dev/ebb/local/shim"
	securejoin "github.com/cyphar/filepath-securejoin"
	auth "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// secretTimeout bounds one read of a ConfigMap, a Secret or a token.
const secretTimeout = 10 * time.Second

// tokenVolume begins the name of the volume that the API server adds for the
// service account's token; a plain process goes without it.
const tokenVolume = "kube-api-access-"

// mounts makes the volumes that the container mounts and the file of its
// termination message.
func (c *container) mounts(dir string, env map[string]string) ([]shim.Mount, error) {
	isolated := c.p.n.iso.Mounts
	var out []shim.Mount
	for _, m := range c.spec.VolumeMounts {
		if !isolated {
			if strings.HasPrefix(m.Name, tokenVolume) {
				continue
			}
			return nil, fmt.Errorf("volume %q cannot be mounted: this machine allows no mount namespace (the node's log says why)", m.Name)
		}
		from, readOnly, err := c.p.volume(m.Name)
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", m.Name, err)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expansion.Expand(m.SubPathExpr, expansion.MappingFuncFor(env))
		}
		if sub != "" {
			if from, err = securejoin.SecureJoin(from, sub); err != nil {
				return nil, err
			}
			if _, err := os.Stat(from); err != nil {
				if err := os.MkdirAll(from, 0o777); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, shim.Mount{Source: from, Target: m.MountPath, ReadOnly: readOnly || m.ReadOnly})
	}
	if !isolated || c.spec.TerminationMessagePath == "" {
		return out, nil
	}
	file := filepath.Join(dir, messageFile)
	if err := os.WriteFile(file, nil, 0o666); err != nil { //nolint:gosec // any user of the container may write its last words
		return nil, err
	}
	if err := os.Chmod(file, 0o666); err != nil { // whatever the umask
		return nil, err
	}
	return append(out, shim.Mount{Source: file, Target: c.spec.TerminationMessagePath}), nil
}

// volume gives the folder (or file) of a volume on the machine, made when it is
// not there yet.
func (p *pod) volume(name string) (dir string, readOnly bool, err error) {
	o := p.object()
	for _, v := range o.Spec.Volumes {
		if v.Name != name {
			continue
		}
		dir = filepath.Join(p.dir, "volumes", name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return "", false, err
		}
		src := sources{p, map[string]map[string]string{}}
		w := files{dir}
		switch {
		case v.EmptyDir != nil:
			return dir, false, os.Chmod(dir, 0o777)
		case v.HostPath != nil:
			return v.HostPath.Path, false, nil
		case v.ConfigMap != nil:
			return dir, true, w.data(src, "ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
		case v.Secret != nil:
			return dir, true, w.data(src, "Secret", v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
		case v.DownwardAPI != nil:
			return dir, true, w.downward(p, v.DownwardAPI.Items)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				switch {
				case s.ConfigMap != nil:
					err = w.data(src, "ConfigMap", s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
				case s.Secret != nil:
					err = w.data(src, "Secret", s.Secret.Name, s.Secret.Items, s.Secret.Optional)
				case s.DownwardAPI != nil:
					err = w.downward(p, s.DownwardAPI.Items)
				case s.ServiceAccountToken != nil:
					err = w.token(p, o, s.ServiceAccountToken)
				default:
					err = fmt.Errorf("a projected source that this node does not know")
				}
				if err != nil {
					return "", false, err
				}
			}
			return dir, true, nil
		}
		return "", false, fmt.Errorf("a kind of volume that this node does not have: use emptyDir, configMap, secret, projected, downwardAPI or hostPath")
	}
	return "", false, fmt.Errorf("the pod has no such volume")
}

// files writes into a volume's folder and nowhere else.
type files struct{ dir string }

func (f files) write(path, content string) error {
	to, err := securejoin.SecureJoin(f.dir, path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	tmp := to + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil { //nolint:gosec // read by whatever user the container has
		return err
	}
	return os.Rename(tmp, to)
}

func (f files) data(src sources, kind, name string, items []v1.KeyToPath, optional *bool) error {
	d, err := src.data(kind, name, optional)
	if err != nil {
		return err
	}
	if items == nil {
		for k, v := range d {
			if err := f.write(k, v); err != nil {
				return err
			}
		}
		return nil
	}
	for _, i := range items {
		v, ok, err := src.key(kind, name, i.Key, optional)
		if err != nil {
			return err
		}
		if ok {
			if err := f.write(i.Path, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f files) downward(p *pod, items []v1.DownwardAPIVolumeFile) error {
	for _, i := range items {
		if i.FieldRef == nil {
			continue
		}
		v, err := p.field(i.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		if err := f.write(i.Path, v); err != nil {
			return err
		}
	}
	return nil
}

func (f files) token(p *pod, o *v1.Pod, s *v1.ServiceAccountTokenProjection) error {
	select { // a token is given for a pod that is bound
	case <-p.bound:
	case <-p.n.ctx.Done():
		return p.n.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(p.n.ctx, secretTimeout)
	defer cancel()
	q := &auth.TokenRequest{Spec: auth.TokenRequestSpec{ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef: &auth.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: o.Name, UID: o.UID}}}
	if s.Audience != "" {
		q.Spec.Audiences = []string{s.Audience}
	}
	t, err := p.n.client.CoreV1().ServiceAccounts(o.Namespace).CreateToken(ctx, o.Spec.ServiceAccountName, q, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return f.write(s.Path, t.Status.Token)
}
