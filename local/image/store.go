package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Policy says when the registry is asked, as imagePullPolicy.
type Policy string

// The policies of Kubernetes.
const (
	Always       Policy = "Always"
	IfNotPresent Policy = "IfNotPresent"
	Never        Policy = "Never"
)

// Errors that callers tell apart; all others are errors of a pull.
var (
	// ErrInvalidName is a reference that is none: pulling again cannot help.
	ErrInvalidName = errors.New("invalid image name")
	// ErrNeverPull is an image that is not here and may not be pulled.
	ErrNeverPull = errors.New("image is not present and its pull policy is Never")
)

// Image is an unpacked image.
type Image struct {
	Name   string    // as asked for
	ID     string    // REPOSITORY@DIGEST, for pod status
	Rootfs string    // absolute path of its files
	Config v1.Config // entrypoint, command, environment, user, working directory
}

// Limits bound what one image may take.
type Limits struct {
	Bytes   int64 // unpacked
	Entries int   // files, folders and links
}

// DefaultLimits are far above what images of services have.
var DefaultLimits = Limits{Bytes: 20 << 30, Entries: 2_000_000}

// Store is a folder of unpacked images. Its methods may be called from several
// goroutines; one process at a time owns the folder.
type Store struct {
	dir    string
	limits Limits

	mu    sync.Mutex
	refs  map[string]string // reference -> digest, of what is unpacked
	pulls map[string]*pull
}

type pull struct {
	done chan struct{}
	img  Image
	err  error
}

// Open opens or makes the store and removes what a killed process left half done.
func Open(dir string, limits Limits) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, limits: limits, refs: map[string]string{}, pulls: map[string]*pull{}}
	half, _ := filepath.Glob(filepath.Join(dir, ".pull-*"))
	for _, h := range half {
		if err := removeAll(h); err != nil {
			return nil, fmt.Errorf("remove half of an image: %w", err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "refs.json"))
	if err == nil {
		err = json.Unmarshal(b, &s.refs)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.refs = map[string]string{} // the images stay; tags are asked for again
	}
	return s, nil
}

// Get returns the image of a reference, pulling it when the policy says so.
// It blocks until the image is unpacked or the context ends; a pull that others
// wait for as well goes on.
func (s *Store) Get(ctx context.Context, ref string, policy Policy, keys authn.Keychain) (Image, error) {
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return Image{}, fmt.Errorf("%w %q: %w", ErrInvalidName, ref, err)
	}
	if policy != Always || isDigest(r) { // what a digest names cannot have changed
		if img, ok := s.present(r, ref); ok {
			return img, nil
		}
	}
	if policy == Never {
		return Image{}, fmt.Errorf("%q: %w", ref, ErrNeverPull)
	}
	s.mu.Lock()
	p := s.pulls[ref]
	if p == nil {
		p = &pull{done: make(chan struct{})}
		s.pulls[ref] = p
		go func() {
			// Not the caller's context: others may wait for the same pull.
			p.img, p.err = s.fetch(context.WithoutCancel(ctx), r, ref, keys)
			s.mu.Lock()
			delete(s.pulls, ref)
			s.mu.Unlock()
			close(p.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-p.done:
		return p.img, p.err
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
}

// Present tells whether the image is here without asking a registry.
func (s *Store) Present(ref string) bool {
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return false
	}
	_, ok := s.present(r, ref)
	return ok
}

func isDigest(r name.Reference) bool { _, ok := r.(name.Digest); return ok }

func (s *Store) present(r name.Reference, ref string) (Image, bool) {
	s.mu.Lock()
	digest := s.refs[ref]
	s.mu.Unlock()
	if digest == "" {
		return Image{}, false
	}
	img, err := s.load(r, ref, digest)
	return img, err == nil
}

// fetch asks the registry what the reference names now and unpacks it if it is new.
func (s *Store) fetch(ctx context.Context, r name.Reference, ref string, keys authn.Keychain) (Image, error) {
	if keys == nil {
		keys = authn.DefaultKeychain
	}
	opts := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(keys), remote.WithUserAgent("ebb-node"),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
	}
	if host := r.Context().RegistryStr(); isLoopback(host) {
		insecure, err := name.ParseReference(ref, name.WeakValidation, name.Insecure)
		if err != nil {
			return Image{}, err
		}
		r = insecure
	}
	img, err := remote.Image(r, opts...)
	if err != nil {
		return Image{}, fmt.Errorf("pull %q: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("pull %q: %w", ref, err)
	}
	if _, err := os.Stat(s.folder(digest.String())); err != nil {
		if err := s.unpack(ctx, img, digest.String()); err != nil {
			return Image{}, fmt.Errorf("pull %q: %w", ref, err)
		}
	}
	if err := s.remember(ref, digest.String()); err != nil {
		return Image{}, err
	}
	return s.load(r, ref, digest.String())
}

func isLoopback(host string) bool {
	h := host
	if i := strings.LastIndexByte(h, ':'); i > 0 && !strings.HasSuffix(h, "]") {
		h = h[:i]
	}
	return h == "localhost" || strings.HasSuffix(h, ".localhost") || strings.HasPrefix(h, "127.") || h == "[::1]"
}

func (s *Store) folder(digest string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(digest, ":", "-"))
}

// RootOf is the root folder of the image that has a path among its files; false when none has.
func (s *Store) RootOf(path string) (string, bool) {
	inside, ok := strings.CutPrefix(path, s.dir+"/")
	if !ok {
		return "", false
	}
	digest, _, _ := strings.Cut(inside, "/")
	return filepath.Join(s.dir, digest, "rootfs"), true
}

func (s *Store) remember(ref, digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs[ref] == digest {
		return nil
	}
	s.refs[ref] = digest
	return s.saveRefs()
}

// saveRefs writes the references; mu is held.
func (s *Store) saveRefs() error {
	b, err := json.Marshal(s.refs)
	if err != nil {
		return err
	}
	tmp := filepath.Join(s.dir, ".refs.json")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(s.dir, "refs.json"))
}

func (s *Store) load(r name.Reference, ref, digest string) (Image, error) {
	dir := s.folder(digest)
	s.mu.Lock() // with the time of its last use, before anybody can remove it
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		now := time.Now()
		err = os.Chtimes(filepath.Join(dir, "config.json"), now, now)
	}
	s.mu.Unlock()
	if err != nil {
		return Image{}, err
	}
	img := Image{Name: ref, ID: r.Context().Name() + "@" + digest, Rootfs: filepath.Join(dir, "rootfs")}
	return img, json.Unmarshal(b, &img.Config)
}

// unpack makes the image's folder in one step: what is there is whole.
func (s *Store) unpack(ctx context.Context, img v1.Image, digest string) error {
	tmp, err := os.MkdirTemp(s.dir, ".pull-")
	if err != nil {
		return err
	}
	defer func() { _ = removeAll(tmp) }() // what is left is removed at the next start
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("image configuration: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	root := filepath.Join(tmp, "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	u := newUnpacker(root, s.limits)
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		err = u.layer(ctx, r)
		r.Close()
		if err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
	}
	if err := u.finish(); err != nil {
		return err
	}
	b, err := json.Marshal(config.Config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "config.json"), b, 0o644); err != nil {
		return err
	}
	err = os.Rename(tmp, s.folder(digest))
	if errors.Is(err, fs.ErrExist) { // two references of one digest at the same time
		return nil
	}
	return err
}

// removeAll deletes a tree that may hold folders without write permission.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
