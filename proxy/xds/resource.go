package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Key names a resource: the full type URL
// ("type.googleapis.com/envoy.config.cluster.v3.Cluster") and its name.
type Key struct{ Type, Name string }

// String is "type name" with the type's last part only, for messages.
func (k Key) String() string { return shortType(k.Type) + " " + k.Name }

// Resource is one version of one resource. It is immutable once it was given
// to a Server, and may be given to several.
type Resource struct {
	Key
	// Body is the encoded message, marshalled once for all streams.
	Body *anypb.Any
	// Version is a hash of the content: equal content has an equal version in
	// another replica and after a restart.
	Version string
	// Needs are the resources that must be usable on a stream before this one
	// is sent there. For a cluster: the key of its ClusterLoadAssignment. For a
	// scope: the key of its RouteConfiguration; types that clients ask for by
	// name are not waited for, but the scope is not replaced or removed while a
	// stream loads what it leads to.
	Needs []Key
	// Lazy resources are sent on a wildcard subscription only while something
	// wanted on that stream needs them.
	Lazy bool
	// Owner is opaque; Server.State counts by it. Empty: nobody asks.
	Owner string

	wire *discovery.Resource
	size int
}

// ResourceOption sets a field of a new Resource.
type ResourceOption func(*Resource)

// WithNeeds adds keys to Needs.
func WithNeeds(keys ...Key) ResourceOption {
	return func(r *Resource) { r.Needs = append(r.Needs, keys...) }
}

// WithOwner sets Owner.
func WithOwner(owner string) ResourceOption { return func(r *Resource) { r.Owner = owner } }

// AsLazy sets Lazy.
func AsLazy() ResourceOption { return func(r *Resource) { r.Lazy = true } }

// NewResource encodes m deterministically and derives the version from the
// bytes. It fails if m cannot be marshalled, or the name is empty or one that the server makes.
func NewResource(name string, m proto.Message, opts ...ResourceOption) (*Resource, error) {
	if name == "" {
		return nil, fmt.Errorf("xds resource of type %T: the name is empty", m)
	}
	body := new(anypb.Any)
	if err := anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("xds resource %q of type %T: marshal: %w", name, m, err)
	}
	if _, g := splitGeneration(name); g > 0 && rules(body.TypeUrl).rearm {
		return nil, fmt.Errorf("xds resource %q of type %T: a name that ends in ~ and a number is the server's own, see Server.TakeBack; choose another", name, m)
	}
	sum := sha256.Sum256(body.Value)
	r := &Resource{Key: Key{body.TypeUrl, name}, Body: body, Version: hex.EncodeToString(sum[:8])}
	for _, o := range opts {
		o(r)
	}
	return r.sealed(), nil
}

// sealed is r with its wire form; a copy if it had none.
func (r *Resource) sealed() *Resource {
	if r.wire != nil {
		return r
	}
	c := *r
	c.wire = &discovery.Resource{Name: r.Name, Version: r.Version, Resource: r.Body}
	c.size = proto.Size(c.wire) + 8
	return &c
}

// same reports whether replacing r by o changes nothing for anybody.
func (r *Resource) same(o *Resource) bool {
	return r != nil && o != nil && r.Version == o.Version && r.Lazy == o.Lazy && r.Owner == o.Owner && slices.Equal(r.Needs, o.Needs)
}

// shortType is the last part of a type URL: "Cluster".
func shortType(url string) string {
	for i := len(url) - 1; i >= 0; i-- {
		if url[i] == '.' || url[i] == '/' {
			return url[i+1:]
		}
	}
	return url
}
