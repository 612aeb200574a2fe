package image

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func made(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func writeLayout(t *testing.T, dir string, images ...v1.Image) string {
	t.Helper()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		if err := p.AppendImage(img); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pack makes a tar of a folder.
func pack(t *testing.T, dir, file string) string {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var to io.Writer = f
	if strings.HasSuffix(file, "gz") {
		z := gzip.NewWriter(f)
		defer z.Close()
		to = z
	}
	w := tar.NewWriter(to)
	defer w.Close()
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoad(t *testing.T) {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	tmp := t.TempDir()
	here, elsewhere := made(t, runtime.GOARCH), made(t, "s390x")
	want, err := here.Digest()
	if err != nil {
		t.Fatal(err)
	}
	folder := writeLayout(t, filepath.Join(tmp, "My Web"), elsewhere, here)
	archive := filepath.Join(tmp, "saved.tar")
	tag, err := name.NewTag("example.com/team/web:v2")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(archive, tag, here); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ file, as, name string }{
		{folder, "", "my-web"}, {folder, "other:v1", "other"}, {pack(t, folder, filepath.Join(tmp, "web.tar")), "", "web"},
		{pack(t, folder, filepath.Join(tmp, "zipped.tar.gz")), "", "zipped"}, {archive, "", "web"}, {archive, "a/b", "a/b"},
	} {
		got, err := Load(t.Context(), x.file, host, x.as)
		if err != nil {
			t.Errorf("%s: %v", x.file, err)
			continue
		}
		if !strings.HasPrefix(got, host+"/"+x.name+"@sha256:") || x.file != archive && !strings.HasSuffix(got, want.String()) {
			t.Errorf("%s as %q is %s", x.file, x.as, got)
		}
		ref, err := name.ParseReference(got, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref)
		if err != nil {
			t.Errorf("%s: %v", got, err)
			continue
		}
		if layers, err := img.Layers(); err != nil || len(layers) != 2 {
			t.Errorf("%s: %d layers, %v", got, len(layers), err)
		}
	}

	file := func(name, content string) string {
		p := filepath.Join(tmp, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	other := filepath.Dir(file("other/x.txt", "x"))
	broken := writeLayout(t, filepath.Join(tmp, "broken"), made(t, runtime.GOARCH))
	blobs, _ := filepath.Glob(filepath.Join(broken, "blobs", "sha256", "*"))
	for _, b := range blobs {
		if err := os.Remove(b); err != nil {
			t.Fatal(err)
		}
	}
	for path, words := range map[string]string{
		filepath.Join(tmp, "nowhere.tar"):               "no such file",
		file("text.tar", "this is no tar at all"):       "is no image: it cannot be read as a tar",
		pack(t, other, filepath.Join(tmp, "other.tar")): "among its files (x.txt, …) is neither manifest.json nor oci-layout",
		other: "it has no file oci-layout",
		writeLayout(t, filepath.Join(tmp, "none")):                               "it holds no image",
		writeLayout(t, filepath.Join(tmp, "foreign"), elsewhere):                 "none of its images is for linux/" + runtime.GOARCH + "; it has linux/s390x",
		writeLayout(t, filepath.Join(tmp, "two"), here, made(t, runtime.GOARCH)): "it holds 2 images",
		broken: "no such file",
	} {
		if _, err := Load(t.Context(), path, host, ""); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error %v, want %q", path, err, words)
		}
	}
	if _, err := Load(t.Context(), folder, host, "Not A Name"); err == nil || !strings.Contains(err.Error(), "--name") {
		t.Errorf("a name that is none: %v", err)
	}
}
