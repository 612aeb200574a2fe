package node

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"ebb.dev/ebb/local/image"
	"ebb.dev/ebb/local/shim"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// messageFile is the termination message on the machine's side.
const messageFile = "termination-log"

// makeSpec says what the shim is to run, and makes the run's folder. Its error
// is what the pod is told as CreateContainerConfigError.
func (c *container) makeSpec(img image.Image, dir string) (shim.Spec, error) {
	if err := c.p.changePortIf(c.serving() != 0); err != nil {
		return shim.Spec{}, err
	}
	env, err := c.env(img)
	if err != nil {
		return shim.Spec{}, err
	}
	lookup := expansion.MappingFuncFor(env)
	expand := func(in []string) []string {
		var out []string
		for _, s := range in {
			out = append(out, expansion.Expand(s, lookup))
		}
		return out
	}
	args := append(expand(c.spec.Command), expand(c.spec.Args)...)
	if len(c.spec.Command) == 0 {
		args = expand(c.spec.Args)
		if len(args) == 0 {
			args = img.Config.Cmd
		}
		args = append(slices.Clone(img.Config.Entrypoint), args...)
	}
	if len(args) == 0 {
		return shim.Spec{}, fmt.Errorf("image %s has no entrypoint: give the container a command", c.spec.Image)
	}
	uid, gid, err := c.user(img)
	if err != nil {
		return shim.Spec{}, err
	}
	s := shim.Spec{Isolation: c.p.n.iso, Rootfs: img.Rootfs, Args: args, Dir: c.spec.WorkingDir, UID: uid, GID: gid, StopSignal: stopSignal(img.Config.StopSignal), Stdin: c.spec.Stdin}
	if s.Dir == "" {
		s.Dir = img.Config.WorkingDir
	}
	for k, v := range env {
		s.Env = append(s.Env, k+"="+v)
	}
	slices.Sort(s.Env)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	if s.Mounts, err = c.mounts(dir, env); err != nil {
		return s, err
	}
	s.Groups = c.groups()
	if x := c.spec.SecurityContext; x != nil && x.ReadOnlyRootFilesystem != nil {
		s.ReadOnly = *x.ReadOnlyRootFilesystem
	}
	if me := os.Getuid(); me != 0 && !c.p.n.iso.Mounts && uid != me && uid != 0 {
		c.say("UserNotChanged", "container %s runs as user %d and not %d: only root, or a user namespace, can change it", c.spec.Name, me, uid)
	}
	return s, c.limit(dir, &s)
}

func (p *pod) changePortIf(serves bool) error {
	if !serves {
		return nil
	}
	return p.changePort()
}

// env is the container's environment: the image's, what the node adds, envFrom,
// env, and the real $PORT over all.
func (c *container) env(img image.Image) (map[string]string, error) {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": c.p.object().Name}
	for _, e := range img.Config.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	if u, err := url.Parse(c.p.n.cfg.Client.Host); err == nil && u.Port() != "" { // for clients inside
		env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"] = u.Hostname(), u.Port()
	}
	if port := c.p.n.cfg.ClusterLocal.Port; port != "" {
		env[portVariable] = port
	}
	src := sources{c.p, map[string]map[string]string{}}
	for _, f := range c.spec.EnvFrom {
		var data map[string]string
		var err error
		switch {
		case f.ConfigMapRef != nil:
			data, err = src.data("ConfigMap", f.ConfigMapRef.Name, f.ConfigMapRef.Optional)
		case f.SecretRef != nil:
			data, err = src.data("Secret", f.SecretRef.Name, f.SecretRef.Optional)
		}
		if err != nil {
			return nil, err
		}
		for k, v := range data {
			env[f.Prefix+k] = v
		}
	}
	for _, e := range c.spec.Env {
		v := expansion.Expand(e.Value, expansion.MappingFuncFor(env))
		if e.ValueFrom != nil {
			var ok bool
			var err error
			if v, ok, err = c.value(src, e.ValueFrom); err != nil {
				return nil, fmt.Errorf("env %s: %w", e.Name, err)
			} else if !ok {
				continue
			}
		}
		env[e.Name] = v
		if e.Name == "PORT" && c.serving() != 0 {
			env["PORT"] = strconv.Itoa(c.p.portNow()) // so that $(PORT) is right from here on
		}
	}
	if c.serving() != 0 {
		env["PORT"] = strconv.Itoa(c.p.portNow())
	}
	return env, nil
}

func (c *container) value(src sources, f *v1.EnvVarSource) (v string, ok bool, err error) {
	switch {
	case f.ConfigMapKeyRef != nil:
		return src.key("ConfigMap", f.ConfigMapKeyRef.Name, f.ConfigMapKeyRef.Key, f.ConfigMapKeyRef.Optional)
	case f.SecretKeyRef != nil:
		return src.key("Secret", f.SecretKeyRef.Name, f.SecretKeyRef.Key, f.SecretKeyRef.Optional)
	case f.FieldRef != nil:
		v, err = c.p.field(f.FieldRef.FieldPath)
		return v, err == nil, err
	case f.ResourceFieldRef != nil:
		v, err = c.resource(f.ResourceFieldRef)
		return v, err == nil, err
	}
	return "", false, fmt.Errorf("a valueFrom that this node does not know")
}

// sources reads ConfigMaps and Secrets, each once for a start.
type sources struct {
	p    *pod
	have map[string]map[string]string
}

func (s sources) data(kind, name string, optional *bool) (map[string]string, error) {
	if d, ok := s.have[kind+name]; ok {
		return d, nil
	}
	o := s.p.object()
	ctx, cancel := context.WithTimeout(s.p.n.ctx, secretTimeout)
	defer cancel()
	d := map[string]string{}
	var err error
	if kind == "ConfigMap" {
		var m *v1.ConfigMap
		if m, err = s.p.n.client.CoreV1().ConfigMaps(o.Namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			for k, v := range m.BinaryData {
				d[k] = string(v)
			}
			for k, v := range m.Data {
				d[k] = v
			}
		}
	} else {
		var m *v1.Secret
		if m, err = s.p.n.client.CoreV1().Secrets(o.Namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			for k, v := range m.Data {
				d[k] = string(v)
			}
		}
	}
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	s.have[kind+name] = d
	return d, nil
}

func (s sources) key(kind, name, key string, optional *bool) (string, bool, error) {
	d, err := s.data(kind, name, optional)
	if err != nil {
		return "", false, err
	}
	v, ok := d[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, s.p.object().Namespace, name)
	}
	return v, ok, nil
}

// field is the downward API.
func (p *pod) field(path string) (string, error) {
	o := p.object()
	switch path {
	case "metadata.name":
		return o.Name, nil
	case "metadata.namespace":
		return o.Namespace, nil
	case "metadata.uid":
		return string(o.UID), nil
	case "metadata.labels":
		return formatMap(o.Labels), nil
	case "metadata.annotations":
		return formatMap(o.Annotations), nil
	case "spec.nodeName":
		return p.n.cfg.Name, nil
	case "spec.serviceAccountName":
		return o.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs":
		return p.n.cfg.Address, nil
	}
	for prefix, m := range map[string]map[string]string{"metadata.labels['": o.Labels, "metadata.annotations['": o.Annotations} {
		if k, ok := strings.CutPrefix(path, prefix); ok {
			return m[strings.TrimSuffix(k, "']")], nil
		}
	}
	return "", fmt.Errorf("fieldPath %q is not one that a pod has", path)
}

func formatMap(m map[string]string) string {
	var l []string
	for k, v := range m {
		l = append(l, k+"="+strconv.Quote(v))
	}
	slices.Sort(l)
	return strings.Join(l, "\n")
}

func (c *container) resource(f *v1.ResourceFieldSelector) (string, error) {
	from := c.spec
	for _, o := range c.p.all() {
		if o.spec.Name == f.ContainerName {
			from = o.spec
		}
	}
	kind, name, _ := strings.Cut(f.Resource, ".")
	list := from.Resources.Limits
	if kind == "requests" {
		list = from.Resources.Requests
	}
	q, ok := list[v1.ResourceName(name)]
	if !ok && kind == "limits" { // no limit: what the node has
		q, ok = c.p.n.status(v1.NodeStatus{}).Allocatable[v1.ResourceName(name)]
	}
	if !ok {
		q = resource.Quantity{}
	}
	d := f.Divisor.MilliValue()
	if d == 0 {
		d = 1000
	}
	return strconv.FormatInt((q.MilliValue()+d-1)/d, 10), nil
}

// user is whom the container runs as: the pod's word, else the image's.
func (c *container) user(img image.Image) (uid, gid int, err error) {
	name, group, _ := strings.Cut(img.Config.User, ":")
	if name != "" {
		if uid, gid, err = lookUser(img.Rootfs, name); err != nil {
			return 0, 0, err
		}
	}
	if group != "" {
		if gid, err = strconv.Atoi(group); err != nil {
			if gid, err = lookGroup(img.Rootfs, group); err != nil {
				return 0, 0, err
			}
		}
	}
	o := c.p.object()
	nonRoot := false
	if s := o.Spec.SecurityContext; s != nil {
		uid, gid = over(uid, s.RunAsUser), over(gid, s.RunAsGroup)
		nonRoot = s.RunAsNonRoot != nil && *s.RunAsNonRoot
	}
	if s := c.spec.SecurityContext; s != nil {
		uid, gid = over(uid, s.RunAsUser), over(gid, s.RunAsGroup)
		if s.RunAsNonRoot != nil {
			nonRoot = *s.RunAsNonRoot
		}
	}
	if nonRoot && uid == 0 {
		return 0, 0, fmt.Errorf("container has runAsNonRoot and image will run as root (pod: %q, container: %s)", c.p.name, c.spec.Name)
	}
	return uid, gid, nil
}

// groups are the further ones of the container's processes.
func (c *container) groups() (all []int) {
	if s := c.p.object().Spec.SecurityContext; s != nil {
		for _, g := range s.SupplementalGroups {
			all = append(all, int(g))
		}
		if s.FSGroup != nil {
			all = append(all, int(*s.FSGroup))
		}
	}
	return all
}

func over(n int, v *int64) int {
	if v != nil {
		return int(*v)
	}
	return n
}

func lookUser(rootfs, name string) (uid, gid int, err error) {
	if n, err := strconv.Atoi(name); err == nil {
		if f := find(rootfs, "etc/passwd", 2, name); len(f) > 3 {
			gid, _ = strconv.Atoi(f[3])
		}
		return n, gid, nil
	}
	f := find(rootfs, "etc/passwd", 0, name)
	if len(f) < 4 {
		return 0, 0, fmt.Errorf("image's user %q is not in its /etc/passwd", name)
	}
	if uid, err = strconv.Atoi(f[2]); err == nil {
		gid, err = strconv.Atoi(f[3])
	}
	return uid, gid, err
}

func lookGroup(rootfs, name string) (int, error) {
	if f := find(rootfs, "etc/group", 0, name); len(f) > 2 {
		return strconv.Atoi(f[2])
	}
	return 0, fmt.Errorf("image's group %q is not in its /etc/group", name)
}

// find returns the fields of the line whose field at is want. The file is the
// image's: nothing outside of it is followed.
func find(rootfs, file string, at int, want string) []string {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return nil
	}
	defer root.Close()
	f, err := root.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if l := strings.Split(s.Text(), ":"); len(l) > at && l[at] == want {
			return l
		}
	}
	return nil
}

func stopSignal(s string) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return map[string]int{"SIGINT": int(syscall.SIGINT), "SIGQUIT": int(syscall.SIGQUIT), "SIGHUP": int(syscall.SIGHUP), "SIGUSR1": int(syscall.SIGUSR1), "SIGUSR2": int(syscall.SIGUSR2), "SIGKILL": int(syscall.SIGKILL)}[strings.ToUpper(s)]
}
