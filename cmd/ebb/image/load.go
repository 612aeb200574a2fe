package image

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation of an OCI layout's index that names an image.
const refName = "org.opencontainers.image.ref.name"

// mostDeep bounds the indexes in indexes of a layout.
const mostDeep = 4

// Load reads an image from a docker archive or an OCI layout (a folder, or a tar of one),
// pushes it to registry and returns its reference by digest. as is its name there, with or without
// a tag; "" takes the one in the file, and else the file's.
func Load(ctx context.Context, file, registry, as string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("no image in %s: %w", file, err)
	}
	dir := file
	var img v1.Image
	var named string
	if !info.IsDir() {
		kind, err := kindOf(file)
		if err != nil {
			return "", err
		}
		if kind == dockerArchive {
			if img, named, err = fromArchive(file); err != nil {
				return "", fmt.Errorf("docker archive %s: %w", file, err)
			}
		} else {
			if dir, err = os.MkdirTemp("", "ebb-image-"); err != nil {
				return "", err
			}
			defer os.RemoveAll(dir)
			if err := untar(ctx, file, dir); err != nil {
				return "", fmt.Errorf("OCI archive %s: %w", file, err)
			}
		}
	}
	if img == nil {
		if img, named, err = fromLayout(dir); err != nil {
			return "", fmt.Errorf("OCI layout %s: %w", file, err)
		}
	}
	// All of it is read before the registry gets anything.
	if _, err := img.ConfigFile(); err != nil {
		return "", fmt.Errorf("image in %s: %w", file, err)
	}
	if as == "" {
		as = named
	}
	if as == "" {
		as = fileName(file)
	}
	return push(ctx, img, registry, as)
}

func push(ctx context.Context, img v1.Image, registry, as string) (string, error) {
	options := []name.Option{name.WeakValidation}
	if isLoopback(registry) {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(path.Join(registry, as), options...)
	if err != nil {
		return "", fmt.Errorf("%q cannot be the image's name: %w: give another one with --name", as, err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("ebb")); err != nil {
		return "", fmt.Errorf("push to %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	return ref.Context().Digest(digest.String()).Name(), nil
}

const (
	dockerArchive = "docker archive"
	ociArchive    = "OCI archive"
)

// kindOf looks at the names in a tar. What has both is an OCI archive, as newer dockers
// write it: it has the digests.
func kindOf(file string) (kind string, err error) {
	not := func(why string) error {
		return fmt.Errorf("%s is no image: %s; it takes a docker archive (`docker save`) or an OCI layout (a folder, or a .tar of one)", file, why)
	}
	var names []string
	err = eachEntry(file, func(h *tar.Header, _ io.Reader) error {
		switch path.Clean(h.Name) {
		case layoutFile:
			kind = ociArchive
		case "manifest.json":
			if kind == "" {
				kind = dockerArchive
			}
		}
		if len(names) < 3 {
			names = append(names, h.Name)
		}
		return nil
	})
	if err != nil {
		return "", not("it cannot be read as a tar (" + err.Error() + ")")
	}
	if kind == "" {
		return "", not("among its files (" + strings.Join(names, ", ") + ", …) is neither manifest.json nor oci-layout")
	}
	return kind, nil
}

const layoutFile = "oci-layout"

// open opens a file, gunzipped when it is gzipped.
func open(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	b := bufio.NewReader(f)
	if magic, _ := b.Peek(2); string(magic) != "\x1f\x8b" {
		return struct {
			io.Reader
			io.Closer
		}{b, f}, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

func eachEntry(file string, do func(*tar.Header, io.Reader) error) error {
	f, err := open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = do(h, r)
		}
		if err != nil {
			return err
		}
	}
}

// untar writes the files of an archive into dir and nowhere else.
func untar(ctx context.Context, file, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return eachEntry(file, func(h *tar.Header, r io.Reader) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		to := filepath.FromSlash(path.Clean(h.Name))
		if h.Typeflag != tar.TypeReg { // a layout has files in folders and nothing else
			return nil
		}
		if err := root.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		f, err := root.Create(to)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(f, r); err != nil { //nolint:gosec // as big as the user's own file
			return err
		}
		return f.Close()
	})
}

func fromArchive(file string) (v1.Image, string, error) {
	opener := func() (io.ReadCloser, error) { return open(file) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, "", err
	}
	if len(manifest) != 1 {
		return nil, "", fmt.Errorf("it holds %d images: save them one by one", len(manifest))
	}
	img, err := tarball.Image(opener, nil)
	if err != nil {
		return nil, "", err
	}
	for _, tag := range manifest[0].RepoTags {
		return img, repository(tag), nil
	}
	return img, "", nil
}

// fromLayout finds this machine's image in a layout.
func fromLayout(dir string) (v1.Image, string, error) {
	if _, err := os.Stat(filepath.Join(dir, layoutFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, "", errors.New("it has no file oci-layout: name the folder that has it, or a docker archive")
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, "", err
	}
	var found []choice
	var others []string
	if err := choose(index, "", 0, &found, &others); err != nil {
		return nil, "", err
	}
	switch {
	case len(found) == 0 && len(others) > 0:
		return nil, "", fmt.Errorf("none of its images is for linux/%s; it has %s", runtime.GOARCH, strings.Join(others, ", "))
	case len(found) == 0:
		return nil, "", errors.New("it holds no image")
	case len(found) > 1:
		return nil, "", fmt.Errorf("it holds %d images for linux/%s: save them one by one", len(found), runtime.GOARCH)
	}
	return found[0].image, repository(found[0].name), nil
}

type choice struct {
	image v1.Image
	name  string
}

func choose(index v1.ImageIndex, called string, depth int, found *[]choice, others *[]string) error {
	if depth > mostDeep {
		return fmt.Errorf("more than %d indexes inside each other", mostDeep)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	seen := map[v1.Hash]bool{}
	for _, d := range manifest.Manifests {
		if seen[d.Digest] {
			continue // one image with several names
		}
		seen[d.Digest] = true
		as := called
		if n := d.Annotations[refName]; n != "" {
			as = n
		}
		if n := d.Annotations["io.containerd.image.name"]; n != "" {
			as = n
		}
		switch {
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err == nil {
				err = choose(inner, as, depth+1, found, others)
			}
			if err != nil {
				return err
			}
		case d.MediaType.IsImage() || d.MediaType == types.DockerManifestSchema2:
			img, err := index.Image(d.Digest)
			if err != nil {
				return err
			}
			platform, err := platformOf(d, img)
			if err != nil {
				return err
			}
			switch {
			case platform.OS == "unknown": // what builders attest about the image
			case platform.OS == "linux" && platform.Architecture == runtime.GOARCH || platform.OS == "":
				*found = append(*found, choice{img, as})
			default:
				*others = append(*others, platform.String())
			}
		}
	}
	return nil
}

func platformOf(d v1.Descriptor, img partial.WithConfigFile) (v1.Platform, error) {
	if d.Platform != nil {
		return *d.Platform, nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return v1.Platform{}, fmt.Errorf("image %s: %w", d.Digest, err)
	}
	return v1.Platform{OS: config.OS, Architecture: config.Architecture}, nil
}

// repository is what follows the registry in a reference: python:3 of
// docker.io/library/python:3. A bare tag, as some layouts have it, is no name.
func repository(ref string) string {
	r, err := name.ParseReference(ref)
	if err != nil || !strings.ContainsAny(ref, ":/") {
		return ""
	}
	if t, ok := r.(name.Tag); ok {
		return path.Base(r.Context().RepositoryStr()) + ":" + t.TagStr()
	}
	return path.Base(r.Context().RepositoryStr())
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// fileName makes an image's name of a file's.
func fileName(file string) string {
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	base := strings.ToLower(filepath.Base(file))
	for _, end := range []string{".gz", ".tgz", ".tar"} {
		base = strings.TrimSuffix(base, end)
	}
	if base = strings.Trim(notInNames.ReplaceAllString(base, "-"), "-"); base == "" {
		base = "image"
	}
	return base
}
