package platform

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ebb.dev/ebb/cmd/ebb/image"
)

// images are those built and pushed so far, by folder.
type images struct {
	mu   sync.Mutex // one build at a time
	refs map[string]string
}

// Folders of the programs that tests deploy.
const (
	App   = "test/app"
	Hello = "examples/hello"
)

// Image builds the Go package in a folder of the repository, pushes it to the platform's
// registry, both once, and returns its reference by digest.
func (p *Platform) Image(t testing.TB, folder string) string {
	t.Helper()
	ref, err := p.build(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (p *Platform) build(ctx context.Context, folder string) (string, error) {
	p.images.mu.Lock()
	defer p.images.mu.Unlock()
	if ref := p.images.refs[folder]; ref != "" {
		return ref, nil
	}
	ref, err := image.Build(ctx, filepath.Join(Root(), folder), p.Running().Registry, strings.ReplaceAll(folder, "/", "-"))
	if err != nil {
		return "", fmt.Errorf("image of %s: %w", folder, err)
	}
	if p.images.refs == nil {
		p.images.refs = map[string]string{}
	}
	p.images.refs[folder] = ref
	return ref, nil
}
