package revision

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	corev1 "k8s.io/api/core/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// unavailable is the error of a registry, or of something on the way to it, that gives no
// answer now. It says nothing about the image.
type unavailable struct{ error }

func (u unavailable) Unwrap() error { return u.error }

func isUnavailable(err error) bool {
	var u unavailable
	return errors.As(err, &u)
}

func allContainers(rev *v1.Revision) []corev1.Container {
	first := rev.Spec.InitContainers
	return append(first[:len(first):len(first)], rev.Spec.Containers...)
}

// withoutRegistry returns the images by container where no registry has to be asked, and
// whether that is true of all of them.
func withoutRegistry(rev *v1.Revision, s *settings.Settings) (map[string]string, bool) {
	known := map[string]string{}
	for _, c := range allContainers(rev) {
		image, ok := asWritten(c.Image, s)
		if !ok {
			return nil, false
		}
		known[c.Name] = image
	}
	return known, true
}

// asWritten returns an image that is given by digest, and "" for one that runs by its tag
// because its registry is not to be asked; false for any other.
func asWritten(image string, s *settings.Settings) (string, bool) {
	if _, err := name.NewDigest(image); err == nil {
		return image, true
	}
	tag, err := name.NewTag(image)
	return "", err == nil && s.Deployment.SkipsTagResolving(tag.RegistryStr())
}

// all returns the digests by container name.
func (r *resolver) all(ctx context.Context, rev *v1.Revision) (map[string]string, error) {
	s := r.store.Load()
	ctx, cancel := context.WithTimeout(ctx, s.Deployment.DigestResolutionTimeout)
	defer cancel()
	keychain, err := r.keychain(ctx, rev)
	if err != nil {
		return nil, err
	}
	digests, known := map[string]string{}, map[string]string{}
	for _, c := range allContainers(rev) {
		digest, ok := known[c.Image]
		if !ok {
			if digest, err = r.digest(ctx, c.Image, s, keychain); err != nil {
				return nil, fmt.Errorf("Unable to fetch image %q of container %q: %w", c.Image, c.Name, err) //nolint:staticcheck // it becomes a condition's message, a sentence
			}
			known[c.Image] = digest
		}
		digests[c.Name] = digest
	}
	return digests, nil
}

// digest returns the image's reference by digest; "" where its registry is not to be asked.
func (r *resolver) digest(ctx context.Context, image string, s *settings.Settings, keychain authn.Keychain) (string, error) {
	if written, ok := asWritten(image, s); ok {
		return written, nil
	}
	tag, err := name.NewTag(image)
	if err != nil {
		return "", err
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain), remote.WithUserAgent("ebb"),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), // the queue tries again, and keeps no lane busy meanwhile
	}
	if r.http != nil {
		options = append(options, remote.WithTransport(r.http))
	}
	if found, err := remote.Head(tag, options...); err == nil {
		return tag.Digest(found.Digest.String()).Name(), nil
	}
	// Not every registry answers HEAD, and only GET says what is wrong.
	found, err := remote.Get(tag, options...)
	switch {
	case err == nil:
		return tag.Digest(found.Digest.String()).Name(), nil
	case ctx.Err() != nil:
		return "", unavailable{fmt.Errorf("%s gave no answer within %s (digest-resolution-timeout of %s): %w",
			tag.RegistryStr(), s.Deployment.DigestResolutionTimeout, settings.ConfigDeployment, err)}
	case answered(err):
		return "", err
	}
	return "", unavailable{err}
}

// answered says whether the error is about the image, the credentials or the registry's
// name, and not about a registry that cannot answer just now.
func answered(err error) bool {
	var response *transport.Error
	if errors.As(err, &response) {
		return response.StatusCode >= 400 && response.StatusCode < 500 &&
			response.StatusCode != http.StatusRequestTimeout && response.StatusCode != http.StatusTooManyRequests
	}
	var host *net.DNSError
	if errors.As(err, &host) {
		return host.IsNotFound
	}
	var certificate *tls.CertificateVerificationError
	var scheme tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &scheme)
}
