package envoy

import (
	"fmt"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"ebb.dev/ebb/proxy/ir"
)

// validated is what every generated xDS type can do.
type validated interface {
	proto.Message
	ValidateAll() error
}

// check returns m when it keeps the rules of its type.
func check[M validated](what string, m M) (M, error) {
	if err := m.ValidateAll(); err != nil {
		var none M
		return none, fmt.Errorf("%s: the resource made from it is not valid: %w", what, err)
	}
	return m, nil
}

// typed packs an extension's configuration. It fails only for a message that does
// not keep its rules or cannot be encoded at all.
func typed(m validated) (*anypb.Any, error) {
	if err := m.ValidateAll(); err != nil {
		return nil, fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	packed := new(anypb.Any)
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return packed, nil
}

// extension packs a named extension.
func extension(name string, m validated) (*corev3.TypedExtensionConfig, error) {
	packed, err := typed(m)
	if err != nil {
		return nil, err
	}
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: packed}, nil
}

// fromADS subscribes on the stream the gateway already has. Without a fetch
// timeout: Envoy waits for what it asked for instead of going on with nothing.
func fromADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

func address(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func who(owner ir.Owner, name string) string {
	if owner == "" {
		return name
	}
	return string(owner) + " (" + name + ")"
}

func count(n uint32) *wrapperspb.UInt32Value    { return wrapperspb.UInt32(n) }
func span(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
func yes() *wrapperspb.BoolValue                { return wrapperspb.Bool(true) }
