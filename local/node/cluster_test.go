package node_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"archive/tar"
	"bytes"

	"ebb.dev/ebb/local/image"
	"ebb.dev/ebb/local/node"
	"ebb.dev/ebb/local/registry"
	"github.com/google/go-containerregistry/pkg/name"
	v1img "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The test binary is also the node process, so that it is the code under test
// (and under -race). The shim is the real, static one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "node" {
		var c nodeConfig
		if err := json.Unmarshal([]byte(os.Args[2]), &c); err != nil {
			panic(err)
		}
		err := node.Run(context.Background(), c.config())
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// nodeConfig is what the node's process is told.
type nodeConfig struct {
	Host, PKI, Data, Listen, Metrics, Shim string
	Isolate                                bool
}

func (c nodeConfig) config() node.Config {
	return node.Config{
		Client: clientConfig(c.Host, c.PKI, "admin"), Name: "test", Data: c.Data, Address: "127.0.0.1", Shim: c.Shim, Isolate: c.Isolate, Limits: image.DefaultLimits,
		PortLow: 15000, PortHigh: 16999, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		API: node.APIConfig{Listen: c.Listen, Cert: c.PKI + "/server.crt", Key: c.PKI + "/server.key", ClientCA: c.PKI + "/ca.crt", ClientName: "kubelet-client"},
		// The kubelet's client stands for the front proxy.
		Metrics: node.APIConfig{Listen: c.Metrics, Cert: c.PKI + "/server.crt", Key: c.PKI + "/server.key", ClientCA: c.PKI + "/ca.crt", ClientName: "kubelet-client"},
	}
}

func clientConfig(host, pki, who string) *rest.Config {
	return &rest.Config{Host: host, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAFile: pki + "/ca.crt", CertFile: pki + "/" + who + ".crt", KeyFile: pki + "/" + who + ".key"}}
}

// cluster is a real API server on a real etcd, a registry, and one node process.
type cluster struct {
	t        *testing.T
	client   *kubernetes.Clientset
	kube     string // the ebb-kube binary
	pki      string
	registry string // host:port
	cfg      nodeConfig
	node     *exec.Cmd
	binary   string // of the node process
	uid      int    // whom it runs as, 0 is whoever runs the tests
}

func kubeBinary(t *testing.T) string {
	kube := os.Getenv("EBB_KUBE")
	if kube == "" {
		kube, _ = filepath.Abs("../../bin/ebb-kube")
	}
	if _, err := os.Stat(kube); err != nil {
		t.Skipf("no ebb-kube (%v): run local/build.sh or set EBB_KUBE", err)
	}
	return kube
}

func newCluster(t *testing.T, isolate bool) *cluster { return newClusterAs(t, isolate, 0) }

func newClusterAs(t *testing.T, isolate bool, uid int) *cluster {
	t.Helper()
	kube := kubeBinary(t)
	dir := t.TempDir()
	c := &cluster{t: t, kube: kube, pki: dir, binary: os.Args[0], uid: uid}
	makePKI(t, dir)
	etcd, peer, api := port(t), port(t), port(t)
	local := func(n int) string { return fmt.Sprintf("http://127.0.0.1:%d", n) }
	c.start(dir, "etcd", "--name=t", "--data-dir="+dir+"/etcd", "--listen-client-urls="+local(etcd), "--advertise-client-urls="+local(etcd), "--listen-peer-urls="+local(peer),
		"--initial-advertise-peer-urls="+local(peer), "--initial-cluster=t="+local(peer), "--log-level=error", "--unsafe-no-fsync")
	c.start(dir, "kube-apiserver", "--etcd-servers="+local(etcd), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", api), "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16", "--tls-cert-file="+dir+"/server.crt", "--tls-private-key-file="+dir+"/server.key", "--client-ca-file="+dir+"/ca.crt",
		"--kubelet-client-certificate="+dir+"/kubelet-client.crt", "--kubelet-client-key="+dir+"/kubelet-client.key", "--kubelet-certificate-authority="+dir+"/ca.crt", "--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file="+dir+"/admin.crt", "--service-account-signing-key-file="+dir+"/admin.key", "--service-account-issuer=https://test", "--authorization-mode=RBAC",
		"--disable-admission-plugins=ServiceAccount", "--profiling=false")
	host := fmt.Sprintf("https://127.0.0.1:%d", api)
	var err error
	if c.client, err = kubernetes.NewForConfig(clientConfig(host, dir, "admin")); err != nil {
		t.Fatal(err)
	}
	c.until("API server ready", func() bool {
		b, err := c.client.RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		return err == nil && string(b) == "ok"
	})
	r, err := registry.Open(t.TempDir(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	c.registry = strings.TrimPrefix(s.URL, "http://")
	data, err := os.MkdirTemp("", "ebb-node-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	c.cfg = nodeConfig{Host: host, PKI: dir, Data: data, Listen: fmt.Sprintf("127.0.0.1:%d", port(t)), Metrics: fmt.Sprintf("127.0.0.1:%d", port(t)), Shim: buildProgram(t, "ebb.dev/ebb/local/cmd/ebb-shim"), Isolate: isolate}
	if uid != 0 {
		c.giveAway()
	}
	c.startNode()
	t.Cleanup(func() {
		c.killNode()
		if _, err := node.Cleanup(context.Background(), data); err != nil {
			t.Error(err)
		}
	})
	return c
}

// giveAway gives the node's user what its process needs, in its own folder.
func (c *cluster) giveAway() {
	copied := func(from, name string, mode os.FileMode) string {
		to := filepath.Join(c.cfg.Data, name)
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, b, mode)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		return to
	}
	c.binary, c.cfg.Shim = copied(os.Args[0], "bin/node", 0o755), copied(c.cfg.Shim, "bin/ebb-shim", 0o755)
	pki, _ := filepath.Glob(filepath.Join(c.pki, "*.[ck]*[ty]"))
	for _, f := range pki {
		c.cfg.PKI = filepath.Dir(copied(f, "pki/"+filepath.Base(f), 0o600))
	}
	err := filepath.WalkDir(c.cfg.Data, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, c.uid, c.uid)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// start runs a program of ebb-kube until the test ends.
func (c *cluster) start(dir, program string, args ...string) {
	log, err := os.Create(filepath.Join(dir, program+".log"))
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(c.kube, append([]string{program}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if c.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			c.t.Logf("%s: …%s", program, b[max(0, len(b)-2000):])
		}
	})
}

func (c *cluster) startNode() {
	b, err := json.Marshal(c.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.node = exec.Command(c.binary, "node", string(b))
	if c.uid != 0 {
		c.node.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}}
		c.node.Dir, c.node.Env = c.cfg.Data, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.cfg.Data, "TMPDIR=" + c.cfg.Data}
	}
	c.node.Stderr = &testLog{c.t}
	if err := c.node.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.until("node ready", func() bool {
		n, err := c.client.CoreV1().Nodes().Get(c.t.Context(), "test", metav1.GetOptions{})
		return err == nil && len(n.Status.Conditions) > 0
	})
}

func (c *cluster) killNode() {
	_ = c.node.Process.Kill()
	_ = c.node.Wait()
}

type testLog struct{ t *testing.T }

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Logf("node: %s", bytes.TrimSpace(b))
	return len(b), nil
}

func (c *cluster) until(what string, f func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not in 60 s: %s", what)
		}
	}
}

// pod makes a pod of one container; change may alter it.
func (c *cluster) pod(name string, change func(*v1.Pod)) *v1.Pod {
	c.t.Helper()
	two := int64(20)
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: v1.PodSpec{
		TerminationGracePeriodSeconds: &two,
		Containers:                    []v1.Container{{Name: "app", Image: c.registry + "/program:v1", Ports: []v1.ContainerPort{{ContainerPort: 8080}}, ReadinessProbe: readiness()}},
	}}
	if change != nil {
		change(p)
	}
	p, err := c.client.CoreV1().Pods("default").Create(c.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *cluster) get(name string) *v1.Pod {
	p, err := c.client.CoreV1().Pods("default").Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

// when waits until the pod's first container is as wanted.
func (c *cluster) when(name, what string, f func(*v1.Pod, v1.ContainerStatus) bool) *v1.Pod {
	c.t.Helper()
	var p *v1.Pod
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if p = c.get(name); p != nil && len(p.Status.ContainerStatuses) > 0 && f(p, p.Status.ContainerStatuses[0]) {
			return p
		}
		if time.Now().After(deadline) {
			b, _ := json.MarshalIndent(p.Status, "", " ")
			c.t.Fatalf("pod %s not in 60 s: %s\n%s", name, what, b)
		}
	}
}

func ready(p *v1.Pod, s v1.ContainerStatus) bool { return s.Ready && p.Status.PodIP != "" }

func (c *cluster) kubectl(args ...string) *exec.Cmd {
	cmd := exec.Command(c.kube, append([]string{"kubectl", "--kubeconfig=/dev/null", "--server=" + c.cfg.Host, "--certificate-authority=" + c.pki + "/ca.crt", "--client-certificate=" + c.pki + "/admin.crt", "--client-key=" + c.pki + "/admin.key"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.pki)
	return cmd
}

// push makes an image of the test program.
func (c *cluster) push(name_, binary string, config v1img.Config) {
	c.t.Helper()
	b, err := os.ReadFile(binary)
	if err != nil {
		c.t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []tar.Header{{Name: "program", Size: int64(len(b)), Mode: 0o755, Typeflag: tar.TypeReg}, {Name: "tmp", Mode: 0o1777, Typeflag: tar.TypeDir}, {Name: "bin", Mode: 0o755, Typeflag: tar.TypeDir}, {Name: "bin/tar", Linkname: "/program", Typeflag: tar.TypeSymlink}} {
		if err := w.WriteHeader(&h); err != nil {
			c.t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(b); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		c.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err == nil {
		img, err = mutate.Config(img, config)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := name.ParseReference(c.registry + "/" + name_)
	if err == nil {
		err = remote.Write(r, img)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func port(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func makePKI(t *testing.T, dir string) {
	t.Helper()
	var caKey *ecdsa.PrivateKey
	var ca *x509.Certificate
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range []string{"ca", "server", "admin", "kubelet-client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: n, Organization: []string{"system:masters"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: n == "ca",
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		}
		if ca == nil {
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		b, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(n+".crt", "CERTIFICATE", der)
		write(n+".key", "PRIVATE KEY", b)
	}
}
