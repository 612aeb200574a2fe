package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spdxType is the media type of an SBOM.
const spdxType = "application/spdx+json"

// publish brings an image for all its machines, and the SBOMs that belong to them, to the registry or into the layout. It returns its digest.
func publish(ctx context.Context, o options, called string, images []built) (string, error) {
	index, sboms, err := indexOf(o, called, images)
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	if o.repository == "" {
		dir := filepath.Join(o.layout, called)
		if err := write(dir, o.tag, index, sboms); err != nil {
			return "", fmt.Errorf("write %s: %w", dir, err)
		}
		o.say("%s: OCI layout in %s, %s", called, dir, digest)
		return digest.String(), nil
	}
	options := []name.Option{name.StrictValidation}
	if o.insecure || onLoopback(o.repository) {
		options = append(options, name.Insecure)
	}
	ref, err := name.NewTag(o.repository+"/"+called+":"+o.tag, options...)
	if err != nil {
		return "", fmt.Errorf("--repository, --tag: %w", err)
	}
	how := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("ebb-images")}
	if err := remote.WriteIndex(ref, index, how...); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	for _, sbom := range sboms {
		id, err := sbom.Digest()
		if err != nil {
			return "", err
		}
		if err := remote.Write(ref.Context().Digest(id.String()), sbom, how...); err != nil {
			return "", fmt.Errorf("push the SBOM of %s: %w", ref, err)
		}
	}
	o.say("%s@%s", ref, digest)
	return digest.String(), nil
}

func onLoopback(repository string) bool {
	host, _, _ := strings.Cut(repository, "/")
	name, _, _ := strings.Cut(host, ":")
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || strings.HasPrefix(host, "127.0.0.1:") || strings.HasPrefix(host, "[::1]:")
}

// indexOf is the image for all machines, and an artifact for each machine's image that refers to it and holds its SBOM.
func indexOf(o options, called string, images []built) (v1.ImageIndex, []v1.Image, error) {
	slices.SortFunc(images, func(a, b built) int { return strings.Compare(a.platform.String(), b.platform.String()) })
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var sboms []v1.Image
	for _, b := range images {
		described, err := partial.Descriptor(b.image)
		if err != nil {
			return nil, nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: b.image, Descriptor: v1.Descriptor{Platform: &b.platform}})
		sbom, err := artifact(b.sbom, *described)
		if err != nil {
			return nil, nil, err
		}
		sboms = append(sboms, sbom)
	}
	index, ok := mutate.Annotations(index, labels(o, called, descriptions[called])).(v1.ImageIndex)
	if !ok {
		return nil, nil, errors.New("the index cannot be annotated")
	}
	return index, sboms, nil
}

// artifact holds an SBOM and refers to what it is of; registries list it with that.
func artifact(sbom []byte, of v1.Descriptor) (v1.Image, error) {
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, spdxType), types.OCIManifestSchema1)
	img, err := mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(sbom, spdxType), MediaType: spdxType})
	if err != nil {
		return nil, err
	}
	of.Platform, of.Annotations = nil, nil
	subject, ok := mutate.Subject(img, of).(v1.Image)
	if !ok {
		return nil, errors.New("the SBOM cannot refer to its image")
	}
	return subject, nil
}

// write makes the layout, or brings one up to date: it has this image and no other.
func write(dir, tag string, index v1.ImageIndex, sboms []v1.Image) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})
	if err := path.ReplaceIndex(index, match.Name(tag), named); err != nil {
		return err
	}
	for _, sbom := range sboms {
		if err := path.AppendImage(sbom); err != nil {
			return err
		}
	}
	return nil
}
