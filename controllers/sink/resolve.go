package sink

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	messagingv1 "ebb.dev/ebb/apis/messaging/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// Address is where events are sent.
type Address struct {
	URL               string
	CACerts, Audience *string
	// Topic of the engine, where the address is that of a Broker or Channel of Ebb: what is
	// published there needs no HTTP.
	Topic string
	// Unwatched is true of an object of a kind that Watch does not know: look again after a while.
	Unwatched bool
}

// Unresolved is the error of a destination that has no address. Its text is for the condition.
type Unresolved struct {
	Message string
	// Unwatched is as in Address.
	Unwatched bool

	missing bool // there is no such object
}

func (u *Unresolved) Error() string { return u.Message }

// Message is what an error of Resolve says to people, and whether the destination has no address; otherwise
// it could not be found out.
func Message(err error) (text string, unresolved bool) {
	var u *Unresolved
	if errors.As(err, &u) {
		return u.Message, true
	}
	return err.Error(), false
}

// Unwatched says whether an object that the error is about is of a kind that Watch does not know.
func Unwatched(err error) bool {
	var u *Unresolved
	return errors.As(err, &u) && u.Unwatched
}

// Resolver finds addresses.
type Resolver struct {
	// Cached reads the kinds that Watch knows.
	Cached client.Reader
	// Live reads all others.
	Live client.Reader
	// Mapper finds the version of a reference that has only a group.
	Mapper meta.RESTMapper
}

// Resolve finds the address of a destination that an object in namespace names.
func (r *Resolver) Resolve(ctx context.Context, d *duck.Destination, namespace string) (Address, error) {
	if d.Empty() {
		return Address{}, &Unresolved{Message: "neither ref nor uri is given"}
	}
	if d.Ref == nil {
		u, err := url.Parse(d.URI)
		if err != nil || !u.IsAbs() || u.Host == "" {
			return Address{}, &Unresolved{Message: fmt.Sprintf("uri %q is not absolute", d.URI)}
		}
		return Address{URL: d.URI, CACerts: d.CACerts, Audience: d.Audience}, nil
	}
	a, err := r.object(ctx, d.Ref, namespace)
	if err != nil {
		return a, err
	}
	if d.URI != "" {
		base, err := url.Parse(a.URL)
		if err != nil {
			return Address{}, &Unresolved{Message: fmt.Sprintf("%s has the address %q, which is no URL", describe(d.Ref, namespace), a.URL), Unwatched: a.Unwatched}
		}
		relative, err := url.Parse(d.URI)
		if err != nil || relative.IsAbs() || relative.Host != "" {
			return Address{}, &Unresolved{Message: fmt.Sprintf("uri %q is not relative to the address of ref", d.URI)}
		}
		a.URL, a.Topic = base.ResolveReference(relative).String(), ""
	}
	if d.CACerts != nil {
		a.CACerts = d.CACerts
	}
	if d.Audience != nil {
		a.Audience = d.Audience
	}
	return a, nil
}

func describe(ref *duck.KReference, namespace string) string {
	if ref.Namespace != "" {
		namespace = ref.Namespace
	}
	kind := ref.Kind
	if gk := ref.GroupKind(); gk == (schema.GroupKind{Kind: "Service"}) {
		kind = "core Service"
	}
	return fmt.Sprintf("%s %s/%s", kind, namespace, ref.Name)
}

func (r *Resolver) object(ctx context.Context, ref *duck.KReference, namespace string) (Address, error) {
	key := client.ObjectKey{Namespace: namespace, Name: ref.Name}
	if ref.Namespace != "" {
		key.Namespace = ref.Namespace
	}
	what, gk := describe(ref, namespace), ref.GroupKind()
	o, known := newObject(gk)
	if !known {
		return r.other(ctx, ref, key, what)
	}
	if err := r.Cached.Get(ctx, key, o); apierrors.IsNotFound(err) {
		return Address{}, &Unresolved{Message: what + " does not exist", missing: true}
	} else if err != nil {
		return Address{}, fmt.Errorf("read %s: %w", what, err)
	}
	if gk.Group == "" {
		return Address{URL: "http://" + key.Name + "." + key.Namespace + ".svc." + settings.ClusterDomain}, nil
	}
	addresses, topic := AddressesOf(o)
	a, err := pick(addresses, ref.Address, what)
	a.Topic = topic
	return a, err
}

// other reads an object of any kind that has status.address.
func (r *Resolver) other(ctx context.Context, ref *duck.KReference, key client.ObjectKey, what string) (Address, error) {
	fail := func(format string, args ...any) (Address, error) {
		return Address{}, &Unresolved{Message: fmt.Sprintf(format, args...), Unwatched: true, missing: true}
	}
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(ref.APIVersion)
	u.SetKind(ref.Kind)
	if ref.APIVersion == "" {
		mapping, err := r.Mapper.RESTMapping(ref.GroupKind())
		if meta.IsNoMatchError(err) {
			return fail("%s: there is no kind %s in group %q", what, ref.Kind, ref.Group)
		} else if err != nil {
			return Address{}, fmt.Errorf("look up %s: %w", what, err)
		}
		u.SetGroupVersionKind(mapping.GroupVersionKind)
	}
	err := r.Live.Get(ctx, key, u)
	switch {
	case meta.IsNoMatchError(err) || runtime.IsNotRegisteredError(err):
		return fail("%s: there is no kind %s in %q", what, ref.Kind, u.GetAPIVersion())
	case apierrors.IsNotFound(err):
		return fail("%s does not exist", what)
	case apierrors.IsForbidden(err):
		return fail("%s cannot be read: %v", what, err)
	case err != nil:
		return Address{}, fmt.Errorf("read %s: %w", what, err)
	}
	var status struct {
		Status duck.AddressStatus `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &status); err != nil {
		return fail("%s has a status.address that cannot be read: %v", what, err)
	}
	a, err := pick(status.Status, ref.Address, what)
	a.Unwatched = true
	var unresolved *Unresolved
	if errors.As(err, &unresolved) {
		unresolved.Unwatched = true
	}
	return a, err
}

func pick(from duck.AddressStatus, name *string, what string) (Address, error) {
	if name == nil {
		if from.Address == nil || from.Address.URL == "" {
			return Address{}, &Unresolved{Message: what + " has no address yet"}
		}
		return Address{URL: from.Address.URL, CACerts: from.Address.CACerts, Audience: from.Address.Audience}, nil
	}
	for _, a := range from.Addresses {
		if a.Name != nil && *a.Name == *name && a.URL != "" {
			return Address{URL: a.URL, CACerts: a.CACerts, Audience: a.Audience}, nil
		}
	}
	return Address{}, &Unresolved{Message: fmt.Sprintf("%s has no address named %q", what, *name)}
}

// newObject makes an object of a kind that Watch knows.
func newObject(gk schema.GroupKind) (client.Object, bool) {
	switch gk {
	case v1.GroupVersion.WithKind(v1.KindService).GroupKind():
		return &v1.Service{}, true
	case v1.GroupVersion.WithKind(v1.KindRoute).GroupKind():
		return &v1.Route{}, true
	case eventingv1.GroupVersion.WithKind(eventingv1.KindBroker).GroupKind():
		return &eventingv1.Broker{}, true
	case messagingv1.GroupVersion.WithKind(messagingv1.KindChannel).GroupKind():
		return &messagingv1.Channel{}, true
	case flowsv1.GroupVersion.WithKind(flowsv1.KindSequence).GroupKind():
		return &flowsv1.Sequence{}, true
	case flowsv1.GroupVersion.WithKind(flowsv1.KindParallel).GroupKind():
		return &flowsv1.Parallel{}, true
	case schema.GroupKind{Kind: "Service"}:
		return coreService(), true
	}
	return nil, false
}

// coreService is all that is needed of one: that it is there.
func coreService() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
	return o
}

// AddressesOf are the addresses of an object of a known kind, and the topic of a Broker or Channel of Ebb.
func AddressesOf(o client.Object) (addresses duck.AddressStatus, topic string) {
	switch o := o.(type) {
	case *v1.Service:
		return duck.AddressStatus{Address: o.Status.Address}, ""
	case *v1.Route:
		return duck.AddressStatus{Address: o.Status.Address}, ""
	case *eventingv1.Broker:
		if eventing.Ours(o.Annotations) {
			topic = o.Status.Annotations[eventing.TopicAnnotation]
		}
		return o.Status.AddressStatus, topic
	case *messagingv1.Channel:
		return o.Status.AddressStatus, o.Status.Annotations[eventing.TopicAnnotation]
	case *flowsv1.Sequence:
		return o.Status.AddressStatus, ""
	case *flowsv1.Parallel:
		return o.Status.AddressStatus, ""
	}
	return duck.AddressStatus{}, ""
}

// Sentence makes a message one.
func Sentence(message string) string {
	if message == "" || strings.HasSuffix(message, ".") {
		return message
	}
	return message + "."
}

// Exists says whether an object is there, and whether it is a Broker: any other is to be looked at again after a while.
func (r *Resolver) Exists(ctx context.Context, ref *duck.KReference, namespace string) (there, broker bool, err error) {
	a, err := r.object(ctx, ref, namespace)
	broker = ref.GroupKind() == eventingv1.GroupVersion.WithKind(eventingv1.KindBroker).GroupKind()
	var u *Unresolved
	switch {
	case err == nil:
		return a.URL != "", broker, nil
	case errors.As(err, &u):
		return !u.missing, broker, nil
	}
	return false, broker, err
}
