package revision

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// pullSecrets returns a keychain of the Revision's own imagePullSecrets and those of its
// service account, before the process's own. Secrets are read from the API server, so
// that none is kept in memory; one that is missing is passed over, as a kubelet does.
func pullSecrets(live client.Reader) func(context.Context, *v1.Revision) (authn.Keychain, error) {
	return func(ctx context.Context, rev *v1.Revision) (authn.Keychain, error) {
		refs := rev.Spec.ImagePullSecrets
		account := rev.Spec.ServiceAccountName
		if account == "" {
			account = "default"
		}
		sa := &corev1.ServiceAccount{}
		err := live.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: account}, sa)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, unavailable{fmt.Errorf("read service account %s/%s for its pull secrets: %w", rev.Namespace, account, err)}
		}
		refs = append(refs[:len(refs):len(refs)], sa.ImagePullSecrets...)
		found := registries{}
		for _, ref := range refs {
			secret := &corev1.Secret{}
			err := live.Get(ctx, types.NamespacedName{Namespace: rev.Namespace, Name: ref.Name}, secret)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, unavailable{fmt.Errorf("read pull secret %s/%s: %w", rev.Namespace, ref.Name, err)}
			}
			if err := found.add(secret); err != nil {
				return nil, fmt.Errorf("pull secret %s/%s: %w", rev.Namespace, ref.Name, err)
			}
		}
		return authn.NewMultiKeychain(found, authn.DefaultKeychain), nil
	}
}

// registries are credentials by registry host or by host and path.
type registries map[string]authn.AuthConfig

// add reads a secret of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg;
// the first credentials of a host win. Its errors hold nothing of the secret's content.
func (r registries) add(secret *corev1.Secret) error {
	var auths map[string]authn.AuthConfig
	switch secret.Type {
	case corev1.SecretTypeDockerConfigJson:
		var file struct {
			Auths map[string]authn.AuthConfig `json:"auths"`
		}
		if err := json.Unmarshal(secret.Data[corev1.DockerConfigJsonKey], &file); err != nil {
			return fmt.Errorf("%s is not the JSON that docker login writes", corev1.DockerConfigJsonKey)
		}
		auths = file.Auths
	case corev1.SecretTypeDockercfg:
		if err := json.Unmarshal(secret.Data[corev1.DockerConfigKey], &auths); err != nil {
			return fmt.Errorf("%s is not the JSON that docker login writes", corev1.DockerConfigKey)
		}
	default:
		return fmt.Errorf("type %q is not %s or %s", secret.Type, corev1.SecretTypeDockerConfigJson, corev1.SecretTypeDockercfg)
	}
	for host, auth := range auths {
		if auth.Auth != "" && auth.Username == "" {
			raw, err := base64.StdEncoding.DecodeString(auth.Auth)
			user, password, ok := strings.Cut(string(raw), ":")
			if err != nil || !ok {
				return fmt.Errorf("auth of %q is not base64 of user:password", host)
			}
			auth.Username, auth.Password, auth.Auth = user, password, ""
		}
		host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
		host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(host, "/"), "/v1"), "/v2")
		if host == "docker.io" {
			host = "index.docker.io"
		}
		if _, ok := r[host]; !ok {
			r[host] = auth
		}
	}
	return nil
}

// Resolve implements authn.Keychain: the longest matching host and path wins.
func (r registries) Resolve(resource authn.Resource) (authn.Authenticator, error) {
	best, auth := -1, authn.Anonymous
	for host, config := range r {
		if (host == resource.RegistryStr() || resource.String() == host || strings.HasPrefix(resource.String(), host+"/")) && len(host) > best {
			best, auth = len(host), authn.FromConfig(config)
		}
	}
	return auth, nil
}
