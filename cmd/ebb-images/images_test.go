package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func testOptions(t *testing.T) options {
	dir := t.TempDir()
	return options{
		version: "v1.2.3", revision: "abc", created: time.Unix(1_700_000_000, 0).UTC(), tag: "v1.2.3", platforms: []string{runtime.GOARCH},
		layout: filepath.Join(dir, "layout"), values: filepath.Join(dir, "images.yaml"), say: t.Logf,
	}
}

// gatewayInputs are a real Envoy and a real libc6, fetched once a machine; the program is this test's own, which saves
// minutes of compiling and is as good a Go program as any.
func gatewayInputs(t *testing.T) inputs {
	t.Helper()
	if testing.Short() {
		t.Skip("fetches Envoy and libc6; left out under -short")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := filepath.Abs("../../out/images.cache")
	if err != nil {
		t.Fatal(err)
	}
	o := options{cache: cache, say: t.Logf}
	in := inputs{arch: runtime.GOARCH, program: program}
	if in.envoy, err = fetchEnvoy(t.Context(), o, in.arch); err != nil {
		t.Skip(err)
	}
	if in.libc, err = fetchLibc(t.Context(), o, in.arch); err != nil {
		t.Skip(err)
	}
	return in
}

// TestImages: two builds make the same digests, on whatever day; the images say what they are, run as nobody, have no shell, and
// the gateway's Envoy runs with what is in the image.
func TestImages(t *testing.T) {
	in := gatewayInputs(t)
	var digests [2][2]string
	var gateway v1.Image
	for i := range digests {
		o := testOptions(t)
		if i == 1 { // the same program with another date, elsewhere
			text, err := os.ReadFile(in.program)
			if err != nil {
				t.Fatal(err)
			}
			in.program = filepath.Join(t.TempDir(), "other")
			if err := os.WriteFile(in.program, text, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		e, g, err := assemble(t.Context(), o, in)
		if err != nil {
			t.Fatal(err)
		}
		gateway = g.image
		for j, b := range []built{e, g} {
			if digests[i][j], err = publish(t.Context(), o, []string{ebbName, gatewayName}[j], []built{b}); err != nil {
				t.Fatal(err)
			}
			checkImage(t, b)
		}
		path, err := layout.FromPath(filepath.Join(o.layout, gatewayName))
		if err != nil {
			t.Fatal(err)
		}
		index, err := path.ImageIndex()
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 2 || manifest.Manifests[0].Digest.String() != digests[i][1] {
			t.Errorf("the layout has %v, %v", manifest, err)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds: %v and %v", digests[0], digests[1])
	}

	root := t.TempDir()
	unpack(t, gateway, root)
	files, err := libcFiles(t.Context(), in.libc, mustRead(t, filepath.Join(root, "usr/bin/envoy")))
	if err != nil {
		t.Fatal(err)
	}
	var loader, folder string
	for _, f := range files {
		if strings.Contains(f.path, "ld-linux") && f.link == "" {
			loader, folder = filepath.Join(root, f.path), filepath.Join(root, filepath.Dir(f.path))
		}
	}
	out, err := exec.CommandContext(t.Context(), loader, "--inhibit-cache", "--library-path", folder, filepath.Join(root, "usr/bin/envoy"), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "version:") {
		t.Errorf("Envoy with the image's own libraries: %v\n%s", err, out)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func checkImage(t *testing.T, b built) {
	t.Helper()
	config, err := b.image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if c.User != "65532:65532" || len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/usr/bin/ebb" || c.Labels["org.opencontainers.image.version"] != "v1.2.3" || config.Created.Unix() != 1_700_000_000 {
		t.Errorf("config %+v, created %s", c, config.Created)
	}
	r := mutate.Extract(b.image)
	defer r.Close()
	have := map[string]bool{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		have[h.Name] = true
		if h.Uid != 0 || h.Mode&0o022 != 0 && strings.TrimSuffix(h.Name, "/") != "tmp" && h.Typeflag != tar.TypeSymlink {
			t.Errorf("%s: of user %d, mode %o", h.Name, h.Uid, h.Mode)
		}
		if h.Mode&0o6000 != 0 {
			t.Errorf("%s runs as somebody else: mode %o", h.Name, h.Mode)
		}
	}
	for _, name := range []string{"etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/bin/ebb"} {
		if !have[name] {
			t.Errorf("no %s", name)
		}
	}
	for _, name := range []string{"bin/sh", "usr/bin/sh", "usr/bin/bash", "usr/bin/dpkg"} {
		if have[name] {
			t.Errorf("it has %s", name)
		}
	}
	var d document
	if err := json.Unmarshal(b.sbom, &d); err != nil {
		t.Fatal(err)
	}
	ids, names := map[string]bool{"SPDXRef-DOCUMENT": true}, map[string]bool{}
	for _, p := range d.Packages {
		if ids[p.ID] || p.Version == "" {
			t.Errorf("package %s %q: its id is there twice, or it has no version", p.ID, p.Version)
		}
		ids[p.ID], names[p.Name] = true, true
	}
	for _, r := range d.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("relationship of unknown packages: %+v", r)
		}
	}
	if !names["github.com/google/go-containerregistry"] || !names["stdlib"] || names["envoy"] != names["libc6"] {
		t.Errorf("packages %v", names)
	}
}

func unpack(t *testing.T, img v1.Image, root string) {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, filepath.FromSlash(h.Name))
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err == nil {
			err = os.WriteFile(to, text, os.FileMode(h.Mode)&0o777) //nolint:gosec // a mode of our own
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestPush: what is pushed is there by its tag and its digest, for each machine, with its SBOM as what refers to it.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true)))
	defer server.Close()
	o := testOptions(t)
	o.repository = strings.TrimPrefix(server.URL, "http://") + "/a/b"
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := mustRead(t, program)
	l, err := layer([]file{{path: "usr/bin/ebb", mode: 0o755, text: text[:1000]}}, o.created)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := partsOfProgram(program, o.version, hexSum(text))
	if err != nil {
		t.Fatal(err)
	}
	var images []built
	for _, arch := range []string{"arm64", "amd64"} {
		b, err := image(o, v1.Platform{OS: "linux", Architecture: arch}, ebbName, empty.Image, []v1.Layer{l}, parts)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
	}
	digest, err := publish(t.Context(), o, ebbName, images)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeValues(o, map[string]string{ebbName: digest, gatewayName: digest}); err != nil {
		t.Fatal(err)
	}
	if text := mustRead(t, o.values); !strings.Contains(string(text), "ebb: "+digest) || !strings.Contains(string(text), "repository: "+o.repository) {
		t.Errorf("values:\n%s", text)
	}
	tag, err := name.ParseReference(o.repository+"/ebb:v1.2.3", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := index.Digest(); err != nil || d.String() != digest {
		t.Errorf("digest %s, %v; want %s", d, err, digest)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("%v, %v", manifest, err)
	}
	for _, m := range manifest.Manifests {
		if m.Platform == nil || m.Platform.OS != "linux" {
			t.Errorf("platform %v", m.Platform)
		}
		refers, err := remote.Referrers(tag.Context().Digest(m.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		list, err := refers.IndexManifest()
		if err != nil || len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != spdxType {
			t.Errorf("what refers to %s: %+v, %v", m.Platform, list, err)
		}
	}
}

// TestForeignArch: a machine that Envoy is not built for is said at once.
func TestForeignArch(t *testing.T) {
	o := testOptions(t)
	if _, err := fetchEnvoy(t.Context(), o, "riscv64"); err == nil || !strings.Contains(err.Error(), "amd64 and arm64") {
		t.Error(err)
	}
}
