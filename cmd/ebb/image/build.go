package image

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/ko/pkg/build"
	"github.com/google/ko/pkg/publish"
)

// IsPackage reports whether a deploy argument means Go code and not an image: it begins
// with "./", "../" or "/", or is ".".
func IsPackage(argument string) bool {
	return argument == "." || argument == ".." || strings.HasPrefix(argument, "./") || strings.HasPrefix(argument, "../") || filepath.IsAbs(argument)
}

// Check tells at once what would keep Build from working: no Go files in dir, no go
// command, no registry.
func Check(dir, registry string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("no Go package in %s: %w: name the folder of a main package, like ./examples/hello", dir, err)
	}
	if !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.go")); len(files) == 0 {
		return fmt.Errorf("%s holds no .go files: name the folder of a main package, like ./examples/hello", dir)
	}
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("the go command is not in the PATH: install Go, or deploy an image with --image REF")
	}
	if registry == "" {
		return errors.New("no registry to push to: give --registry HOST/PATH or set $KO_DOCKER_REPO, or use a running `ebb up`, which has one (--data DIR names it)")
	}
	return nil
}

// Build compiles the main package in dir for this machine's architecture, pushes it to
// registry/NAME and returns the reference by digest. Registries on loopback are spoken
// to in plain HTTP. It uses the standard logger, which it silences while it runs: one
// Build at a time.
func Build(ctx context.Context, dir, registry, imageName string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := Check(dir, registry); err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	var output strings.Builder
	log.SetOutput(&output)
	defer log.SetOutput(os.Stderr)
	explain := func(what string, err error) error {
		return fmt.Errorf("%s %s: %w%s", what, dir, err, compilerLines(output.String()))
	}
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	base, err := baseImage(platform)
	if err != nil {
		return "", err
	}
	builder, err := build.NewGo(ctx, dir,
		build.WithBaseImages(func(context.Context, string) (name.Reference, build.Result, error) {
			return name.MustParseReference("scratch"), base, nil
		}),
		build.WithPlatforms(platform.String()),
		build.WithDisabledSBOM(),
		build.WithTrimpath(true),
		build.WithDefaultEnv([]string{"CGO_ENABLED=0"}),
		build.WithJobs(runtime.GOMAXPROCS(0)),
	)
	if err != nil {
		return "", explain("build", err)
	}
	importPath, err := builder.QualifyImport(".")
	if err != nil {
		return "", explain("find the Go package in", err)
	}
	if err := builder.IsSupportedReference(importPath); err != nil {
		return "", explain("deploy", fmt.Errorf("it is not a main package: %w", err))
	}
	result, err := builder.Build(ctx, importPath)
	if err != nil {
		return "", explain("build", err)
	}
	publisher, err := publish.NewDefault(registry,
		publish.WithAuthFromKeychain(authn.DefaultKeychain),
		publish.WithNamer(func(base, _ string) string { return path.Join(base, imageName) }),
		publish.Insecure(isLoopback(registry)),
		publish.WithTags([]string{"latest"}),
	)
	if err != nil {
		return "", fmt.Errorf("registry %s: %w", registry, err)
	}
	defer publisher.Close()
	ref, err := publisher.Publish(ctx, result, importPath)
	if err != nil {
		return "", fmt.Errorf("push to %s: %w", registry, err)
	}
	return ref.String(), nil
}

// baseImage is empty, but says for which machines it is.
func baseImage(platform v1.Platform) (v1.Image, error) {
	config, err := empty.Image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = platform.OS, platform.Architecture
	return mutate.ConfigFile(empty.Image, config)
}

func isLoopback(registry string) bool {
	host, _, _ := strings.Cut(registry, "/")
	name, _, _ := strings.Cut(host, ":")
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || strings.HasPrefix(host, "127.0.0.1:") || strings.HasPrefix(host, "[::1]:")
}

// compilerLines are what the compiler said, without ko's own lines.
func compilerLines(output string) string {
	var kept []string
	for line := range strings.SplitSeq(output, "\n") {
		if line != "" && !strings.Contains(line, "Building ") && !strings.Contains(line, "Using ") {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return "\n" + strings.Join(kept[:min(len(kept), 30)], "\n")
}
