package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"ebb.dev/ebb/local/shim"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// ClusterLocal is how pods reach Services by their cluster-local names: there is no DNS
// server, so containers with a mount namespace get an /etc/hosts with the names. It is
// zero where there is no such gateway.
type ClusterLocal struct {
	// Gateway is the DNS name that the ExternalName Services of the gateway name.
	Gateway string
	// Host is the IP of the gateway's in-cluster listener, Port its port.
	Host, Port string
}

// portVariable tells containers on which port the cluster-local names answer.
const portVariable = "EBB_CLUSTER_LOCAL_PORT"

// hosts is the one file that all containers have as /etc/hosts. It is changed in place,
// because they have this very file: a Service that comes is a line at the end, one that goes
// a # at the beginning of its line. Only a file that is mostly such lines is written anew.
type hosts struct {
	path, address, head string

	mu    sync.Mutex
	lines map[string]int64 // where the line of a Service begins, by namespace/name
	size  int64
	gone  int
}

func newHosts(path, address string) (*hosts, error) {
	head, err := os.ReadFile("/etc/hosts")
	if err != nil {
		head = []byte("127.0.0.1 localhost\n::1 localhost\n")
	}
	h := &hosts{path: path, address: address, head: strings.TrimRight(string(head), "\n") + "\n", lines: map[string]int64{}}
	return h, h.rewrite()
}

// line has a # in its way to be one: a space is replaced by it.
func (h *hosts) line(service string) string {
	namespace, name, _ := strings.Cut(service, "/")
	short := name + "." + namespace
	return fmt.Sprintf(" %s %s.svc.cluster.local %s.svc %s\n", h.address, short, short, short)
}

func (h *hosts) add(service string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.lines[service]; ok {
		return nil
	}
	return h.write(func(f *os.File) error {
		n, err := f.WriteAt([]byte(h.line(service)), h.size)
		if err != nil {
			return err
		}
		h.lines[service] = h.size
		h.size += int64(n)
		return nil
	})
}

func (h *hosts) remove(service string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.lines[service]
	if !ok {
		return nil
	}
	delete(h.lines, service)
	if h.gone++; h.gone > 100 && h.gone > len(h.lines) {
		return h.rewrite()
	}
	return h.write(func(f *os.File) error {
		_, err := f.WriteAt([]byte("#"), at)
		return err
	})
}

func (h *hosts) write(do func(*os.File) error) error {
	f, err := os.OpenFile(h.path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f)
}

// rewrite writes all of the file; mu is held, or nobody else has it yet.
func (h *hosts) rewrite() error {
	var b strings.Builder
	b.WriteString(h.head)
	for service := range h.lines {
		h.lines[service] = int64(b.Len())
		b.WriteString(h.line(service))
	}
	h.size, h.gone = int64(b.Len()), 0
	return h.write(func(f *os.File) error {
		if _, err := f.WriteAt([]byte(b.String()), 0); err != nil {
			return err
		}
		return f.Truncate(h.size)
	})
}

// names keeps the hosts file by the core Services that stand for a Route.
func (n *Node) names(ctx context.Context) error {
	if n.hosts == nil {
		<-ctx.Done()
		return nil
	}
	report := func(err error) {
		if err != nil {
			n.log.Warn("write the hosts file", "error", err)
		}
	}
	set := func(o any) {
		if s, ok := o.(*v1.Service); ok {
			key := s.Namespace + "/" + s.Name
			if s.Spec.Type == v1.ServiceTypeExternalName && s.Spec.ExternalName == n.cfg.ClusterLocal.Gateway {
				report(n.hosts.add(key))
			} else {
				report(n.hosts.remove(key))
			}
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(n.client.CoreV1().RESTClient(), "services", metav1.NamespaceAll, fields.Everything()),
		ObjectType:    &v1.Service{},
		Transform: func(o any) (any, error) {
			if s, ok := o.(*v1.Service); ok {
				s.ManagedFields, s.Annotations, s.Labels = nil, nil, nil
			}
			return o, nil
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: set, UpdateFunc: func(_, o any) { set(o) },
			DeleteFunc: func(o any) {
				if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
					report(n.hosts.remove(key))
				}
			},
		},
	})
	informer.RunWithContext(ctx)
	return nil
}

// hostsMount is the container's /etc/hosts: the one of all, or with aliases of the pod's own
// a copy from its start.
func (c *container) hostsMount() ([]shim.Mount, error) {
	aliases := c.p.object().Spec.HostAliases
	h := c.p.n.hosts
	path := "/etc/hosts"
	if h != nil {
		path = h.path
	}
	if len(aliases) > 0 {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, a := range aliases {
			b = fmt.Appendf(b, "%s %s\n", a.IP, strings.Join(a.Hostnames, " "))
		}
		path = filepath.Join(c.p.dir, "hosts")
		if err := os.WriteFile(path, b, 0o644); err != nil { //nolint:gosec // read by whatever user the container has
			return nil, err
		}
	} else if h == nil {
		return nil, nil
	}
	return []shim.Mount{{Source: path, Target: "/etc/hosts", ReadOnly: true}}, nil
}
