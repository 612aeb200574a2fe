package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ebb.dev/ebb/local/shim"
	securejoin "github.com/cyphar/filepath-securejoin"
	v1 "k8s.io/api/core/v1"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
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
				c.say("NoServiceAccountToken", "container %s runs without its service account's token at %s: without a mount namespace the node can place no volume (%s)", c.spec.Name, m.MountPath, c.p.n.isoWhy)
				continue
			}
			return nil, fmt.Errorf("volume %q cannot be mounted at %s: without a mount namespace the node can place no volume (%s)", m.Name, m.MountPath, c.p.n.isoWhy)
		}
		from, readOnly, err := c.p.volumes.get(c, m.Name)
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", m.Name, err)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expansion.Expand(m.SubPathExpr, expansion.MappingFuncFor(env))
		}
		if sub != "" {
			fixed := readOnly && !hasContents(c.p.volumes.find(m.Name))
			if from, err = subPath(from, sub, fixed); err != nil {
				return nil, fmt.Errorf("volume %q: subPath %q: %w", m.Name, sub, err)
			}
		}
		out = append(out, shim.Mount{Source: from, Target: m.MountPath, ReadOnly: readOnly || m.ReadOnly})
	}
	// An outer path comes before what is mounted inside of it.
	slices.SortStableFunc(out, func(a, b shim.Mount) int { return strings.Compare(a.Target, b.Target) })
	if !isolated {
		return out, nil
	}
	hosts, err := c.hostsMount()
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	out = append(hosts, out...)
	if c.spec.TerminationMessagePath == "" {
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

// subPath is a path inside a volume, made as a folder like the volume's own when it is
// not there, unless the volume is fixed.
func subPath(volume, sub string, fixed bool) (string, error) {
	path, err := securejoin.SecureJoin(volume, sub)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil || fixed {
		return path, err
	}
	info, err := os.Stat(volume)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", err
	}
	return path, os.Chmod(path, info.Mode().Perm()|info.Mode()&os.ModeSetgid) // whatever the umask
}

// volumes are those of one pod.
type volumes struct {
	p    *pod
	poke chan struct{} // capacity 1: a source has changed

	mu      sync.Mutex // one writer at a time
	live    map[string]bool
	tokens  map[string]issued
	owned   map[string]bool // volumes of claims that the pod's group has
	keeping bool
}

func newVolumes(p *pod) *volumes {
	return &volumes{p: p, poke: make(chan struct{}, 1), live: map[string]bool{}, tokens: map[string]issued{}, owned: map[string]bool{}}
}

func (v *volumes) dir(name string) string { return filepath.Join(v.p.dir, "volumes", name) }

func (v *volumes) find(name string) *v1.Volume {
	o := v.p.object()
	for i := range o.Spec.Volumes {
		if o.Spec.Volumes[i].Name == name {
			return &o.Spec.Volumes[i]
		}
	}
	return nil
}

// get gives the folder (or file) of a volume on the machine, made when it is not there
// yet. What has contents follows them from then on.
func (v *volumes) get(c *container, name string) (dir string, readOnly bool, err error) {
	s := v.find(name)
	if s == nil {
		return "", false, fmt.Errorf("the pod has no such volume")
	}
	dir = v.dir(name)
	switch {
	case s.EmptyDir != nil:
		return dir, false, v.emptyDir(dir)
	case s.HostPath != nil:
		return s.HostPath.Path, false, hostPath(s.HostPath)
	case s.PersistentVolumeClaim != nil, s.Ephemeral != nil:
		return v.claimed(s)
	case s.Image != nil:
		dir, err = c.imageVolume(s.Image)
		return dir, true, err
	case hasContents(s):
		v.follow(s)
		v.mu.Lock()
		defer v.mu.Unlock()
		return dir, true, v.write(s)
	}
	return "", false, fmt.Errorf("a kind of volume that this node does not have: use emptyDir, configMap, secret, projected, downwardAPI, persistentVolumeClaim, ephemeral, image or hostPath")
}

func hasContents(s *v1.Volume) bool {
	return s.ConfigMap != nil || s.Secret != nil || s.DownwardAPI != nil || s.Projected != nil
}

func (v *volumes) emptyDir(dir string) error {
	if _, err := os.Stat(dir); err == nil { // it lives as long as the pod, with what is in it
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask
		return err
	}
	if g := v.p.fsGroup(); g != nil && v.p.n.mayOwn() {
		return share(dir, *g, false)
	}
	return nil
}

func hostPath(s *v1.HostPathVolumeSource) error {
	if s.Type == nil {
		return nil
	}
	switch *s.Type {
	case v1.HostPathDirectoryOrCreate:
		return os.MkdirAll(s.Path, 0o755)
	case v1.HostPathFileOrCreate:
		f, err := os.OpenFile(s.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	case v1.HostPathUnset:
	default:
		info, err := os.Stat(s.Path)
		if err != nil {
			return err
		}
		if !isOf(info.Mode(), *s.Type) {
			return fmt.Errorf("hostPath %s is not a %s", s.Path, *s.Type)
		}
	}
	return nil
}

func isOf(mode os.FileMode, kind v1.HostPathType) bool {
	switch kind {
	case v1.HostPathDirectory:
		return mode.IsDir()
	case v1.HostPathSocket:
		return mode&os.ModeSocket != 0
	case v1.HostPathCharDev:
		return mode&os.ModeCharDevice != 0
	case v1.HostPathBlockDev:
		return mode&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice
	}
	return mode.IsRegular()
}

// write brings a volume up to date in one step, as its readers see it; mu is held.
func (v *volumes) write(s *v1.Volume) error {
	content, err := v.contents(&s.VolumeSource)
	if err != nil {
		return err
	}
	dir := v.dir(s.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	w, err := volumeutil.NewAtomicWriter(dir, v.p.name)
	if err != nil {
		return err
	}
	group := v.p.fsGroup()
	if !v.p.n.mayOwn() {
		group = nil
	}
	return w.Write(content, func(sub string) error {
		if group == nil {
			return nil
		}
		return share(filepath.Join(dir, sub), *group, true)
	})
}
