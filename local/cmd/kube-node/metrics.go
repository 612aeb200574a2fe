package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"ebb.dev/ebb/local/metrics"
)

// serveMetrics answers metrics.k8s.io, an aggregated API, for the one node, by the control groups that the kubelet and
// containerd have made for its containers. Only the front proxy of the kube-apiserver may ask.
func serveMetrics(args []string) error {
	f := flag.NewFlagSet("metrics", flag.ExitOnError)
	kubeconfig := f.String("kubeconfig", "", "`file` of who may list pods")
	node := f.String("node", "", "`name` of the node")
	groups := f.String("cgroup-root", "", "the kubelet's cgroupRoot")
	listen := f.String("listen", "", "`host:port`")
	cert, key := f.String("cert", "", "PEM `file`"), f.String("key", "", "PEM `file`")
	clientCA, clientName := f.String("client-ca", "", "PEM `file` of the front proxy's authority"), f.String("client-name", "", "common `name` of its certificate")
	if err := f.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(*clientCA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate in it", *clientCA)
	}
	answers := metrics.Handler(&source{client, *node, *groups}, metrics.NewMeter())
	server := &http.Server{
		Addr: *listen, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if who := q.TLS.PeerCertificates[0].Subject.CommonName; who != *clientName {
				http.Error(w, fmt.Sprintf("%q may not ask", who), http.StatusForbidden)
				return
			}
			answers.ServeHTTP(w, q)
		}),
	}
	return server.ListenAndServeTLS(*cert, *key)
}

// source is the node as its meter sees it.
type source struct {
	client     kubernetes.Interface
	node, root string
}

func (s *source) Node(ctx context.Context) (*v1.Node, error) {
	return s.client.CoreV1().Nodes().Get(ctx, s.node, metav1.GetOptions{})
}

// Pods are those whose containers run; none while the API server does not answer.
func (s *source) Pods() []metrics.Pod {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := s.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + s.node})
	if err != nil {
		fmt.Fprintln(os.Stderr, "list pods:", err)
		return nil
	}
	var out []metrics.Pod
	for i := range all.Items {
		p := &all.Items[i]
		one := metrics.Pod{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels}
		for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if c.State.Running != nil {
				_, id, _ := strings.Cut(c.ContainerID, "://")
				one.Containers = append(one.Containers, metrics.Container{Name: c.Name, Run: id, Started: c.State.Running.StartedAt.Time, Groups: s.groups(p, id)})
			}
		}
		if len(one.Containers) > 0 {
			out = append(out, one)
		}
	}
	return out
}

// groups are where the kubelet's cgroupfs driver puts a container.
func (s *source) groups(p *v1.Pod, container string) map[string]string {
	below := filepath.Join(s.root, "kubepods", "pod"+string(p.UID), container)
	if p.Status.QOSClass != v1.PodQOSGuaranteed {
		below = filepath.Join(s.root, "kubepods", strings.ToLower(string(p.Status.QOSClass)), "pod"+string(p.UID), container)
	}
	const mounted = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(mounted, "cgroup.controllers")); err == nil { // version 2
		return map[string]string{"": filepath.Join(mounted, below)}
	}
	return map[string]string{"cpuacct": filepath.Join(mounted, "cpuacct", below), "memory": filepath.Join(mounted, "memory", below)}
}
