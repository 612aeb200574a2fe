package revision

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// fakeRegistry serves app:v1; it asks for user:secret where locked, and counts requests.
type fakeRegistry struct {
	host     string
	locked   atomic.Bool
	requests atomic.Int64
	digest   string
}

func newFakeRegistry(t *testing.T) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{}
	inner := registry.New()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		if user, password, _ := r.BasicAuth(); f.locked.Load() && (user != "user" || password != "secret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(f.host + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image); err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	f.digest = f.host + "/app@" + hash.String()
	return f
}

func revisionOfImages(images ...string) *v1.Revision {
	rev := &v1.Revision{}
	rev.Namespace, rev.Name, rev.UID = "default", "hello-00001", "uid"
	for i, image := range images {
		rev.Spec.Containers = append(rev.Spec.Containers, corev1.Container{Name: string(rune('a' + i)), Image: image})
	}
	return rev
}

func startResolver(t *testing.T, keychain authn.Keychain) *resolver {
	t.Helper()
	r := newResolver(settings.NewStore(), 2, func(context.Context, *v1.Revision) (authn.Keychain, error) { return keychain, nil })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func answer(t *testing.T, r *resolver) {
	t.Helper()
	select {
	case <-r.answers:
	case <-time.After(30 * time.Second):
		t.Fatal("no answer of the resolver within 30 s")
	}
}

func TestResolve(t *testing.T) {
	f := newFakeRegistry(t)
	before := f.requests.Load()
	r := startResolver(t, registries{})
	fixed := "registry.invalid/app@sha256:" + strings.Repeat("0", 64)
	rev := revisionOfImages(f.host+"/app:v1", fixed, "dev.local/app:v1", f.host+"/app:v1")
	if digests, err := r.resolve(rev); digests != nil || err != nil {
		t.Fatalf("an answer before it was asked for: %v %v", digests, err)
	}
	answer(t, r)
	digests, err := r.resolve(rev)
	if err != nil {
		t.Fatal(err)
	}
	for container, want := range map[string]string{"a": f.digest, "b": fixed, "c": "", "d": f.digest} {
		if digests[container] != want {
			t.Errorf("container %s: %q, want %q", container, digests[container], want)
		}
	}
	asked := f.requests.Load()
	if _, err := r.resolve(rev); err != nil || f.requests.Load() != asked {
		t.Errorf("the second question asked the registry again (%v)", err)
	}
	if heads := asked - before; heads > 4 { // a ping and a HEAD, each at most once more
		t.Errorf("%d requests for one image", heads)
	}
	r.forget(rev.UID)
	if digests, _ := r.resolve(rev); digests != nil {
		t.Error("a forgotten revision is still known")
	}
	answer(t, r)
}

func TestResolveTriesAgain(t *testing.T) {
	f := newFakeRegistry(t)
	f.locked.Store(true)
	r := startResolver(t, registries{})
	rev := revisionOfImages(f.host + "/app:v1")
	if _, err := r.resolve(rev); err != nil {
		t.Fatal(err)
	}
	answer(t, r)
	_, err := r.resolve(rev)
	if err == nil || !strings.Contains(err.Error(), f.host+"/app:v1") || !strings.Contains(err.Error(), `"a"`) {
		t.Fatalf("the error should name image and container: %v", err)
	}
	f.locked.Store(false)
	answer(t, r) // of the try after the back-off
	if digests, err := r.resolve(rev); err != nil || digests["a"] != f.digest {
		t.Errorf("got %v %v", digests, err)
	}
}

// TestHangingRegistry: a registry that never answers takes nothing from the others,
// however many Revisions wait for it.
func TestHangingRegistry(t *testing.T) {
	asked := make(chan struct{}, 1000)
	hang := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(hang) })
	f := newFakeRegistry(t)
	r := startResolver(t, registries{}) // two at a time
	if err := r.store.Update(settings.ConfigDeployment, map[string]string{"digest-resolution-timeout": "1h"}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		rev := revisionOfImages(strings.TrimPrefix(hanging.URL, "http://") + "/app:v1")
		rev.UID = types.UID(fmt.Sprintf("hanging-%d", i))
		if _, err := r.resolve(rev); err != nil {
			t.Fatal(err)
		}
	}
	<-asked
	<-asked
	for i := range 5 {
		rev := revisionOfImages(f.host + "/app:v1")
		rev.UID = types.UID(fmt.Sprintf("good-%d", i))
		if _, err := r.resolve(rev); err != nil {
			t.Fatal(err)
		}
		answer(t, r)
		if digests, err := r.resolve(rev); err != nil || digests["a"] != f.digest {
			t.Fatalf("got %v %v", digests, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, l := range r.lanes {
		if l.running > 2 {
			t.Errorf("%d at a time at %q, want at most 2", l.running, key)
		}
	}
}

// TestWhatIsAnAnswer: what says something about the image, and what only that nobody answers now.
func TestWhatIsAnAnswer(t *testing.T) {
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	ask := func(url string) error {
		store := settings.NewStore()
		if err := store.Update(settings.ConfigDeployment, map[string]string{"digest-resolution-timeout": "300ms"}); err != nil {
			t.Fatal(err)
		}
		r := newResolver(store, 1, func(context.Context, *v1.Revision) (authn.Keychain, error) { return registries{}, nil })
		_, err := r.all(t.Context(), revisionOfImages(strings.TrimPrefix(url, "http://")+"/app:v1"))
		if err == nil {
			t.Fatalf("%s: no error", url)
		}
		return err
	}
	for code, down := range map[int]bool{500: true, 503: true, 429: true, 401: false, 403: false, 404: false} {
		status.Store(int64(code))
		if err := ask(server.URL); isUnavailable(err) != down {
			t.Errorf("status %d: unavailable is %v, want %v: %v", code, !down, down, err)
		}
	}
	if err := ask(gone.URL); !isUnavailable(err) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := ask(slow.URL); !isUnavailable(err) || !strings.Contains(err.Error(), "digest-resolution-timeout") {
		t.Errorf("no answer in time: %v", err)
	}
}

func TestPullSecret(t *testing.T) {
	f := newFakeRegistry(t)
	f.locked.Store(true)
	found := registries{}
	auth := base64.StdEncoding.EncodeToString([]byte("user:secret"))
	err := found.add(&corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: []byte(`{"auths":{"http://` + f.host + `/v2/":{"auth":"` + auth + `"},"` + f.host + `/other":{"username":"x","password":"y"}}}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := startResolver(t, found)
	rev := revisionOfImages(f.host + "/app:v1")
	if _, err := r.resolve(rev); err != nil {
		t.Fatal(err)
	}
	answer(t, r)
	if digests, err := r.resolve(rev); err != nil || digests["a"] != f.digest {
		t.Errorf("got %v %v", digests, err)
	}
}

// TestKeychainOfTheProcess: what docker login wrote for the control plane counts where the
// pod and its account have nothing.
func TestKeychainOfTheProcess(t *testing.T) {
	f := newFakeRegistry(t)
	f.locked.Store(true)
	folder := t.TempDir()
	t.Setenv("DOCKER_CONFIG", folder)
	auth := base64.StdEncoding.EncodeToString([]byte("user:secret"))
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(`{"auths":{"`+f.host+`":{"auth":"`+auth+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newResolver(settings.NewStore(), 1, pullSecrets(fake.NewClientBuilder().Build()))
	digests, err := r.all(t.Context(), revisionOfImages(f.host+"/app:v1"))
	if err != nil || digests["a"] != f.digest {
		t.Errorf("got %v %v", digests, err)
	}
}

func TestBadPullSecretsSayNothingOfTheirContent(t *testing.T) {
	for _, secret := range []corev1.Secret{
		{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`hunter2`)}},
		{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"h":{"auth":"hunter2"}}`)}},
		{Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"password": []byte(`hunter2`)}},
	} {
		if err := (registries{}).add(&secret); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("type %s: %v", secret.Type, err)
		}
	}
}
