package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// askedFor reads a container's keychain when a registry is really asked.
type askedFor struct{ c *container }

// Resolve implements authn.Keychain.
func (a askedFor) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return a.c.keychain().Resolve(r)
}

// keychain is the pod's pull secrets, its service account's, and the machine's own, in
// this order. A secret that is not there or is none is left out and told: the image may
// need no login.
func (c *container) keychain() authn.Keychain {
	p := c.p
	o := p.object()
	ctx, cancel := context.WithTimeout(p.n.ctx, secretTimeout)
	defer cancel()
	refs := o.Spec.ImagePullSecrets
	// The API server's admission does this for most pods; a pod of an account that got its
	// secrets later has them too.
	if name := o.Spec.ServiceAccountName; name != "" {
		account, err := p.n.client.CoreV1().ServiceAccounts(o.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			refs = append(refs[:len(refs):len(refs)], account.ImagePullSecrets...)
		} else if !apierrors.IsNotFound(err) {
			p.n.log.Warn("pull secrets of a service account", "pod", p.name, "account", name, "error", err)
		}
	}
	var chain []authn.Keychain
	seen := map[string]bool{}
	for _, ref := range refs {
		if seen[ref.Name] {
			continue
		}
		seen[ref.Name] = true
		s, err := p.n.client.CoreV1().Secrets(o.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		var l logins
		if err == nil {
			l, err = loginsOf(s)
		}
		if err != nil {
			c.say("FailedToRetrieveImagePullSecret", "image pull secret %s is left out: %v", ref.Name, err)
			continue
		}
		chain = append(chain, l)
	}
	return authn.NewMultiKeychain(append(chain, authn.DefaultKeychain)...)
}

// logins are those of a docker configuration, by registry, or registry with a path.
type logins map[string]authn.AuthConfig

// loginsOf reads a secret of the types dockerconfigjson and dockercfg. No error holds
// what is in it.
func loginsOf(s *v1.Secret) (logins, error) {
	var l logins
	switch {
	case s.Data[v1.DockerConfigJsonKey] != nil:
		var d struct {
			Auths logins `json:"auths"`
		}
		if json.Unmarshal(s.Data[v1.DockerConfigJsonKey], &d) != nil {
			return nil, fmt.Errorf("its key %s is not a docker configuration", v1.DockerConfigJsonKey)
		}
		l = d.Auths
	case s.Data[v1.DockerConfigKey] != nil:
		if json.Unmarshal(s.Data[v1.DockerConfigKey], &l) != nil {
			return nil, fmt.Errorf("its key %s is not a docker configuration", v1.DockerConfigKey)
		}
	default:
		return nil, fmt.Errorf("it has neither the key %s nor %s", v1.DockerConfigJsonKey, v1.DockerConfigKey)
	}
	return l, nil
}

// Resolve implements authn.Keychain: the login with the longest path that the image is under.
func (l logins) Resolve(r authn.Resource) (authn.Authenticator, error) {
	best := authn.Anonymous
	longest := -1
	for key, a := range l {
		path := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://"), "/")
		path = strings.TrimSuffix(strings.TrimSuffix(path, "/v1"), "/v2")
		if path == "docker.io" { // as the registry calls itself
			path = "index.docker.io"
		}
		if path != r.RegistryStr() && path != r.String() && !strings.HasPrefix(r.String(), path+"/") {
			continue
		}
		if len(path) > longest {
			best, longest = authn.FromConfig(a), len(path)
		}
	}
	return best, nil
}
