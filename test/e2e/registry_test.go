package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

// registry stands before the platform's own one. It answers what handle says, or hands on where handle is nil.
type registry struct {
	host string // as in the name of an image
	good http.Handler

	mu     sync.Mutex
	handle http.HandlerFunc
	asked  int // requests
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	handle := r.handle
	r.asked++
	r.mu.Unlock()
	if handle == nil {
		handle = r.good.ServeHTTP
	}
	handle(w, q)
}

// becomes changes what it answers; nil is well.
func (r *registry) becomes(handle http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handle = handle
}

func (r *registry) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// newRegistry has a port at once, at which connections are refused until open is called.
func newRegistry(t *testing.T, n *platform.Namespace, handle http.HandlerFunc) (r *registry, open func()) {
	t.Helper()
	name, listen := "127.0.0.1", [4]byte{127, 0, 0, 1}
	if n.OnCluster() { // asked by the pods of the control plane and by the node
		name, listen = strings.Split(n.Running().Registry, ":")[0], [4]byte{}
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "registry")
	t.Cleanup(func() { file.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: listen}); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	r = &registry{
		host:   fmt.Sprintf("%s:%d", name, address.(*syscall.SockaddrInet4).Port),
		good:   httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.Running().Registry}),
		handle: handle,
	}
	n.PlainRegistry(t, r.host)
	return r, func() {
		t.Helper()
		if err := syscall.Listen(fd, 64); err != nil {
			t.Fatal(err)
		}
		listener, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: r}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { server.Close() })
	}
}

// answers is a refusal in a registry's way.
func answers(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]any{"code": code, "message": message}}})
	}
}

// from makes a Service whose image is at a registry.
func from(image string) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.Template.Spec.Containers[0].Image = image }
}

// awaitRevision waits until holds returns nil for a Revision.
func awaitRevision(n *platform.Namespace, revision string, holds func(*v1.Revision) error) *v1.Revision {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), platform.Deadline)
	defer cancel()
	all, err := platform.Await(ctx, n.Platform, &v1.RevisionList{}, func(all []*v1.Revision) error {
		if len(all) == 0 {
			return fmt.Errorf("it does not exist")
		}
		return holds(all[0])
	}, client.InNamespace(n.In), client.MatchingFields{"metadata.name": revision})
	if err != nil {
		n.Fatalf("revision %s/%s: %v", n.In, revision, err)
	}
	return all[0]
}

// TestRegistryFaults: a registry that gives no answer leaves Revisions waiting and says why, one that says no fails
// them, in its words; nobody else waits, and all are Ready by themselves when the registries work.
func TestRegistryFaults(t *testing.T) {
	n := begin(t)
	n.Image(t, platform.App) // pushes it under the tag too
	down, start := newRegistry(t, n, nil)
	var all []*registry
	open := func(handle http.HandlerFunc) *registry {
		r, open := newRegistry(t, n, handle)
		open()
		all = append(all, r)
		return r
	}
	wakes := make(chan struct{})
	hangs := open(func(w http.ResponseWriter, q *http.Request) {
		select {
		case <-wakes:
			down.good.ServeHTTP(w, q)
		case <-q.Context().Done():
		}
	})
	broken := open(answers(http.StatusInternalServerError, "UNKNOWN", "the disk is full"))
	busy := open(answers(http.StatusTooManyRequests, "TOOMANYREQUESTS", "come back later"))
	denies := open(answers(http.StatusForbidden, "DENIED", "your plan has ended"))
	cases := map[string]struct {
		at             *registry
		status, reason string
		words          string
	}{
		"down":   {down, "Unknown", v1.ReasonResolvingDigests, "connection refused"},
		"hangs":  {hangs, "Unknown", v1.ReasonResolvingDigests, "gave no answer within 10s"},
		"broken": {broken, "Unknown", v1.ReasonResolvingDigests, "the disk is full"},
		"busy":   {busy, "Unknown", v1.ReasonResolvingDigests, "come back later"},
		"denies": {denies, "False", v1.ReasonContainerMissing, "DENIED: your plan has ended"},
	}
	for name, c := range cases {
		create(n, n.Service(name, from(c.at.host+"/test-app:latest")))
	}
	// One that has the image's manifest, but gives none of its blobs to a node.
	half, openHalf := newRegistry(t, n, nil)
	half.handle = func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, "/blobs/") {
			answers(http.StatusForbidden, "DENIED", "no blobs today")(w, q)
			return
		}
		half.good.ServeHTTP(w, q)
	}
	openHalf()
	all = append(all, half)
	create(n, n.Service("half", from(half.host+"/"+ownImage(t, n, n.In+"/half"))))
	// Made beside them, and asked for by its tag as well.
	n.Deploy("good", from(n.Running().Registry+"/test-app:latest"))
	if a := n.MustFetch(t, n.URL("good", "/")); a.Revision() != "good-00001" {
		t.Errorf("the good one answers %s", a)
	}
	for name, c := range cases {
		shows := func(conditions v1.Conditions, kind string, reason string) error {
			have := conditions.Get(kind)
			if have == nil || string(have.Status) != c.status || have.Reason != reason || !strings.Contains(have.Message, c.words) || !strings.Contains(have.Message, c.at.host) {
				return fmt.Errorf("%s should be %s %s with %q of %s: %s", kind, c.status, reason, c.words, c.at.host, platform.Describe(conditions))
			}
			return nil
		}
		awaitRevision(n, name+"-00001", func(r *v1.Revision) error {
			if err := shows(r.Status.Conditions, v1.RevisionContainerHealthy, c.reason); err != nil {
				return err
			}
			return shows(r.Status.Conditions, v1.ConditionReady, c.reason)
		})
		above := c.reason
		if c.status == "False" {
			above = v1.ReasonRevisionFailed
		}
		n.AwaitService(name, func(s *v1.Service) error { return shows(s.Status.Conditions, v1.ServiceConfigurationsReady, above) })
		if left := command(t, n, "kubectl", "get", "deployments,pods", "-l", serving.ServiceLabel+"="+name, "-o", "name"); left != "" {
			t.Errorf("%s has %s without an image", name, left)
		}
	}
	pulling := func(conditions v1.Conditions, kind string) error {
		c := conditions.Get(kind)
		if !c.IsFalse() || !strings.Contains(c.Message, "no blobs today") {
			return fmt.Errorf("%s should have the registry's words: %s", kind, platform.Describe(conditions))
		}
		return nil
	}
	awaitRevision(n, "half-00001", func(r *v1.Revision) error {
		if c := r.Status.Conditions.Get(v1.RevisionContainerHealthy); c == nil || c.Reason != "ErrImagePull" && c.Reason != "ImagePullBackOff" {
			return fmt.Errorf("conditions: %s", platform.Describe(r.Status.Conditions))
		}
		return pulling(r.Status.Conditions, v1.RevisionContainerHealthy)
	})
	n.AwaitService("half", func(s *v1.Service) error { return pulling(s.Status.Conditions, v1.ConditionReady) })
	// They are asked again while they say the same: a HEAD and a GET a try begin with one request each.
	for _, r := range []*registry{broken, busy, denies} {
		platform.Until(t, "asked for a third time", func() error {
			if asked := r.requests(); asked <= 4 {
				return fmt.Errorf("%s had %d requests", r.host, asked)
			}
			return nil
		})
	}
	start()
	close(wakes)
	for _, r := range all {
		r.becomes(nil)
	}
	n.AwaitReady("half")
	n.MustFetch(t, n.URL("half", "/"))
	for name, c := range cases {
		s := n.AwaitReady(name)
		if a := n.MustFetch(t, n.URL(name, "/")); a.Revision() != name+"-00001" || s.Generation != 1 {
			t.Errorf("%s answers %s", name, a)
		}
		awaitRevision(n, name+"-00001", func(r *v1.Revision) error {
			if d := r.Status.ContainerStatuses; len(d) != 1 || !strings.HasPrefix(d[0].ImageDigest, c.at.host+"/test-app@sha256:") {
				t.Errorf("%s runs %+v", name, d)
			}
			return nil
		})
	}
}

// TestPrivateRegistry: images are found and pulled with the pull secrets of the template and of the service account.
// Without, or with a wrong password, the registry's answer is on the Service, and a corrected secret is enough.
func TestPrivateRegistry(t *testing.T) {
	n := begin(t)
	var mu sync.Mutex
	pulled := map[string]bool{} // repositories of which a blob was given out
	r, open := newRegistry(t, n, nil)
	r.handle = func(w http.ResponseWriter, q *http.Request) {
		if user, password, _ := q.BasicAuth(); user != "ann" || password != "correct horse" {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			answers(http.StatusUnauthorized, "UNAUTHORIZED", "who are you")(w, q)
			return
		}
		if repository, _, blob := strings.Cut(strings.TrimPrefix(q.URL.Path, "/v2/"), "/blobs/"); blob {
			mu.Lock()
			pulled[repository] = true
			mu.Unlock()
		}
		r.good.ServeHTTP(w, q)
	}
	open()
	password := func(word string) map[string][]byte {
		text, err := json.Marshal(map[string]any{"auths": map[string]any{r.host: map[string]string{"username": "ann", "password": word}}})
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{corev1.DockerConfigJsonKey: text}
	}
	secret := func(n *platform.Namespace, name, word string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: name}, Type: corev1.SecretTypeDockerConfigJson, Data: password(word)}
		create(n, s)
		return s
	}
	secrets := func(names ...string) (refs []corev1.LocalObjectReference) {
		for _, name := range names {
			refs = append(refs, corev1.LocalObjectReference{Name: name})
		}
		return refs
	}
	secret(n, "right", "correct horse")
	wrong := secret(n, "wrong", "battery staple")
	create(n, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.In, Name: "puller"}, ImagePullSecrets: secrets("right")})

	repository := func(name string) string { return n.In + "/" + name }
	deploy := func(n *platform.Namespace, name string, change func(*v1.RevisionSpec)) {
		t.Helper()
		create(n, n.Service(name, func(s *v1.Service) {
			s.Spec.Template.Spec.Containers[0].Image = r.host + "/" + ownImage(t, n, repository(name))
			change(&s.Spec.Template.Spec)
		}))
	}
	deploy(n, "by-template", func(s *v1.RevisionSpec) { s.ImagePullSecrets = secrets("right") })
	deploy(n, "by-account", func(s *v1.RevisionSpec) { s.ServiceAccountName = "puller" })
	deploy(n, "without", func(*v1.RevisionSpec) {})
	deploy(n, "wrong", func(s *v1.RevisionSpec) { s.ImagePullSecrets = secrets("wrong") })
	// The account that pods have when they name none.
	other := n.Platform.Namespace(t)
	secret(other, "right", "correct horse")
	ctx := t.Context()
	if _, err := platform.Await(ctx, n.Platform, &corev1.ServiceAccountList{}, func(all []*corev1.ServiceAccount) error {
		if len(all) == 0 {
			return fmt.Errorf("there is no default account yet")
		}
		return nil
	}, client.InNamespace(other.In), client.MatchingFields{"metadata.name": "default"}); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: other.In, Name: "default"}}
	if err := n.Patch(ctx, account, client.RawPatch("application/merge-patch+json", []byte(`{"imagePullSecrets":[{"name":"right"}]}`))); err != nil {
		t.Fatal(err)
	}
	deploy(other, "by-default", func(*v1.RevisionSpec) {})

	for _, name := range []string{"without", "wrong"} {
		n.AwaitService(name, func(s *v1.Service) error {
			c := s.Status.Conditions.Get(v1.ConditionReady)
			if !c.IsFalse() || c.Reason != v1.ReasonRevisionFailed || !strings.Contains(c.Message, "UNAUTHORIZED: who are you") || !strings.Contains(c.Message, r.host+"/"+repository(name)) {
				return fmt.Errorf("conditions: %s", platform.Describe(s.Status.Conditions))
			}
			return nil
		})
		awaitRevision(n, name+"-00001", func(r *v1.Revision) error {
			if c := r.Status.Conditions.Get(v1.RevisionContainerHealthy); !c.IsFalse() || c.Reason != v1.ReasonContainerMissing {
				return fmt.Errorf("conditions: %s", platform.Describe(r.Status.Conditions))
			}
			return nil
		})
	}
	ready := func(n *platform.Namespace, name string) {
		t.Helper()
		n.AwaitReady(name)
		if a := n.MustFetch(t, n.URL(name, "/")); a.Revision() != name+"-00001" {
			t.Errorf("%s answers %s", name, a)
		}
		mu.Lock()
		defer mu.Unlock()
		if !pulled[repository(name)] {
			t.Errorf("%s was not pulled from the private registry, but %v were", name, pulled)
		}
	}
	ready(n, "by-template")
	ready(n, "by-account")
	ready(other, "by-default")
	wrong.Data = password("correct horse")
	if err := n.Update(ctx, wrong); err != nil {
		t.Fatal(err)
	}
	ready(n, "wrong")
	if out := command(t, n, "kubectl", "get", "ksvc,config,rt,rev,deployments,pods,events", "-o", "yaml"); strings.Contains(out, "battery") || strings.Contains(out, "correct horse") {
		t.Error("a password is in an object")
	}
}

// ownImage pushes test/app under a name and with a digest that no other image has, so that a node has to
// pull it, and returns the name with its tag.
func ownImage(t *testing.T, n *platform.Namespace, repository string) string {
	t.Helper()
	app, err := name.ParseReference(n.Image(t, platform.App))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(app)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Labels = map[string]string{"repository": repository}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(n.Running().Registry + "/" + repository + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return repository + ":v1"
}
