package publish

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/translate"
	"ebb.dev/ebb/proxy/xds"
)

// readAgain is when a Secret is read again that could not be read.
const readAgain = time.Second

// secretEntry is a Secret that a host is served with. Of all other Secrets nothing is kept,
// and of their content nothing is read: the cache has their metadata alone.
type secretEntry struct {
	users   map[ir.Owner]bool
	known   bool               // it was read, or found missing
	pair    *translate.KeyPair // the last good one, while the Secret exists
	problem string             // what is wrong with what it holds now; "" when nothing is
}

// secretMetadata is what is watched.
func secretMetadata() client.Object {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return o
}

// TLS says whether the gateways listen with TLS at all.
func (p *Publisher) TLS() bool {
	return slices.ContainsFunc(p.opts.Listeners, func(l ir.Listener) bool { return l.TLS })
}

func (p *Publisher) secretChanged(o client.Object) {
	name := client.ObjectKeyFromObject(o)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.secrets[name] != nil {
		p.queue.Add(key{kind: secretKey, name: name})
	}
}

// useSecrets notes in which Secrets of its namespace the certificates of an object's hosts are.
func (p *Publisher) useSecrets(entry *served, namespace string, byHost map[string]string) {
	now := make(map[string]types.NamespacedName, len(byHost))
	if p.TLS() {
		for host, name := range byHost {
			now[host] = types.NamespacedName{Namespace: namespace, Name: name}
		}
	}
	if maps.Equal(now, entry.secrets) {
		return
	}
	before := entry.secrets
	entry.secrets = now
	for _, name := range now {
		if p.secrets[name] == nil {
			p.secrets[name] = &secretEntry{users: map[ir.Owner]bool{}}
			p.queue.Add(key{kind: secretKey, name: name})
		}
		p.secrets[name].users[entry.owner] = true
	}
	kept := slices.Collect(maps.Values(now))
	for _, name := range before {
		if secret := p.secrets[name]; secret != nil && !slices.Contains(kept, name) {
			delete(secret.users, entry.owner)
			if len(secret.users) == 0 {
				delete(p.secrets, name)
			}
		}
	}
}

// secured says which hosts of an object have a certificate.
func (p *Publisher) secured(entry *served) func(host string) bool {
	return func(host string) bool {
		secret := p.secrets[entry.secrets[host]]
		return secret != nil && secret.pair != nil
	}
}

// awaitsCertificate says whether a host that the object serves has a certificate that is not read, or not with the server,
// yet.
func (p *Publisher) awaitsCertificate(entry *served) bool {
	if len(entry.secrets) == 0 {
		return false
	}
	for _, host := range entry.route.Hosts {
		for _, d := range host.Domains {
			name, used := entry.secrets[d.Host]
			if d.Audience != ir.External || !used {
				continue
			}
			secret := p.secrets[name]
			if secret == nil || !secret.known || secret.pair != nil && !slices.Contains(entry.keys, xds.Key{Type: xds.SecretType, Name: d.Host}) {
				return true
			}
		}
	}
	return false
}

// publishSecret reads a Secret in use and gives it to those who use it.
func (p *Publisher) publishSecret(name types.NamespacedName) {
	p.mu.Lock()
	used := p.secrets[name] != nil
	p.mu.Unlock()
	if !used {
		return
	}
	secret := &corev1.Secret{}
	err := p.opts.Live.Get(context.Background(), name, secret)
	if err != nil && !apierrors.IsNotFound(err) {
		p.opts.Logger.Error("a certificate could not be read; it is tried again", "secret", name, "error", err)
		time.AfterFunc(readAgain, func() { p.queue.Add(key{kind: secretKey, name: name}) })
		return
	}
	var pair *translate.KeyPair
	problem, missing := "", err != nil
	if missing {
		problem = fmt.Sprintf("secret %s does not exist: make it with `kubectl create secret tls %s -n %s --cert FILE --key FILE`", name, name.Name, name.Namespace)
	} else if pair, err = translate.Certificate(secret); err != nil {
		problem = err.Error()
	}
	p.setSecret(name, pair, problem, missing)
}

func (p *Publisher) setSecret(name types.NamespacedName, pair *translate.KeyPair, problem string, missing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.secrets[name]
	if entry == nil {
		return // nobody uses it any more
	}
	entry.known, entry.problem = true, problem
	if pair != nil || missing {
		entry.pair = pair
	}
	if problem != "" {
		p.opts.Logger.Warn("certificate is not usable", "secret", name, "problem", problem, "served", entry.pair != nil)
	}
	for owner := range entry.users {
		// Translated again: whether http is sent to https may depend on it.
		switch kind, user := parseOwner(owner); kind {
		case translate.RouteKind:
			p.queue.Add(key{kind: routeKey, name: user})
		case translate.DomainMappingKind:
			p.queue.Add(key{kind: mappingKey, name: user})
		}
	}
}

// encodeCertificates makes the secrets of the hosts that an object serves outside.
func (p *Publisher) encodeCertificates(entry *served, share ir.Route) ([]*xds.Resource, error) {
	if len(entry.secrets) == 0 {
		return nil, nil
	}
	var resources []*xds.Resource
	for _, host := range share.Hosts {
		for _, d := range host.Domains {
			secret := p.secrets[entry.secrets[d.Host]]
			if d.Audience != ir.External || secret == nil || secret.pair == nil {
				continue
			}
			m, err := envoy.Secret(secret.pair.For(d.Host, entry.owner))
			if err != nil {
				return nil, err
			}
			r, err := xds.NewResource(m.GetName(), m, xds.WithOwner(string(entry.owner)))
			if err != nil {
				return nil, err
			}
			resources = append(resources, r)
		}
	}
	return resources, nil
}

// CertificateState says of a host of a Route or a DomainMapping (its namespace and the
// name of the Secret in use) whether a certificate is served, whether that is known at all, and what
// is wrong with it, in words for a person.
func (p *Publisher) CertificateState(namespace, secret, host string) (served, known bool, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.secrets[types.NamespacedName{Namespace: namespace, Name: secret}]
	if entry == nil || !entry.known {
		return false, false, ""
	}
	problem = entry.problem
	if entry.pair != nil && problem == "" {
		problem = entry.pair.Covers(host)
	}
	// Served is what the discovery server has: a Secret that was just read is not there yet.
	for owner := range entry.users {
		if user := p.served[owner]; user != nil && slices.Contains(user.keys, xds.Key{Type: xds.SecretType, Name: host}) {
			served = entry.pair != nil
		}
	}
	return served, true, problem
}
