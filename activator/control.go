package activator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"ebb.dev/ebb/proxy/link"
)

// nodeCluster is how the control plane tells activators from gateways.
const nodeCluster = "ebb-activator"

// sink takes what the control plane says of a revision.
type sink interface {
	apply(name string, spec *link.Revision) error
	remove(name string)
}

// control is the delta ADS client: it asks for the revisions that are wanted and
// hands their descriptions on. It keeps a stream open as long as it runs; what was
// known stays in use while there is none.
type control struct {
	node    *corev3.Node
	client  discoveryv3.AggregatedDiscoveryServiceClient
	sink    sink
	logger  *slog.Logger
	metrics *metrics

	mu       sync.Mutex
	wanted   map[string]uint64 // name -> when it was wanted, a running number
	wants    uint64
	versions map[string]string // of what was taken over
	wake     chan struct{}     // wanted has changed
}

func newControl(node string, conn grpc.ClientConnInterface, s sink, logger *slog.Logger, m *metrics) *control {
	return &control{
		node:   &corev3.Node{Id: node, Cluster: nodeCluster},
		client: discoveryv3.NewAggregatedDiscoveryServiceClient(conn),
		sink:   s, logger: logger, metrics: m,
		wanted: map[string]uint64{}, versions: map[string]string{}, wake: make(chan struct{}, 1),
	}
}

// want turns the subscription to a revision on or off. It does not block.
func (c *control) want(name string, on bool) {
	c.mu.Lock()
	if on {
		c.wants++
		c.wanted[name] = c.wants
	} else {
		delete(c.wanted, name)
	}
	delete(c.versions, name) // either way nothing is known of it any more
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run keeps a stream until ctx ends.
func (c *control) run(ctx context.Context) {
	for lost := false; ctx.Err() == nil; {
		opened, err := c.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if opened || !lost {
			c.logger.Warn("control plane: stream lost, going on with what is known", "error", err)
		}
		lost = true
		pause(ctx)
	}
}

// pause waits 30 to 300 ms, so that activators do not all come back at once.
func pause(ctx context.Context) {
	t := time.NewTimer(30*time.Millisecond + rand.N(270*time.Millisecond)) //nolint:gosec // jitter
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// stream opens a stream and serves it until it breaks; opened says that it was up.
func (c *control) stream(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.client.DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}

	// The call returned, so there is a connection. Nothing is sent before something is
	// wanted: a first request without names would ask for everything.
	c.metrics.connects.Inc()
	c.metrics.connected.Store(1)
	defer c.metrics.connected.Store(0)
	c.logger.Info("control plane: connected")

	acks := make(chan *discoveryv3.DeltaDiscoveryRequest, 16)
	broken := make(chan error, 1)
	go func() {
		for {
			res, err := s.Recv()
			if err != nil {
				broken <- err
				return
			}
			select {
			case acks <- c.take(res):
			case <-ctx.Done():
				broken <- ctx.Err()
				return
			}
		}
	}()
	send := func(m *discoveryv3.DeltaDiscoveryRequest) error {
		err := s.Send(m)
		if errors.Is(err, io.EOF) {
			err = <-broken // Recv has the reason
		}
		return err
	}

	sent := map[string]uint64{}
	first := true
	for {
		for more := true; more; {
			var d *discoveryv3.DeltaDiscoveryRequest
			if d, more = c.changes(sent); d == nil {
				break
			}
			if first {
				d.Node, d.InitialResourceVersions = c.node, c.known()
				first = false
			}
			if err := send(d); err != nil {
				return true, err
			}
		}
		select {
		case err := <-broken:
			return true, err
		case ack := <-acks:
			if err := send(ack); err != nil {
				return true, err
			}
		case <-c.wake:
		}
	}
}

// known returns the versions of what is in use, for a server that may know them.
func (c *control) known() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.versions)
}

// changes returns the next message that brings what was sent closer to what is
// wanted, nil if nothing is missing, and whether another one must follow: a name that was dropped and is wanted
// again is first unsubscribed, then subscribed, so that it is sent anew.
func (c *control) changes(sent map[string]uint64) (d *discoveryv3.DeltaDiscoveryRequest, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: link.RevisionType}
	for name, n := range sent {
		if c.wanted[name] != n {
			d.ResourceNamesUnsubscribe = append(d.ResourceNamesUnsubscribe, name)
			delete(sent, name)
		}
	}
	if len(d.ResourceNamesUnsubscribe) == 0 {
		for name, n := range c.wanted {
			if sent[name] != n {
				d.ResourceNamesSubscribe = append(d.ResourceNamesSubscribe, name)
				sent[name] = n
			}
		}
		if len(d.ResourceNamesSubscribe) == 0 {
			return nil, false
		}
	}
	slices.Sort(d.ResourceNamesUnsubscribe)
	slices.Sort(d.ResourceNamesSubscribe)
	return d, len(d.ResourceNamesUnsubscribe) > 0
}

// take hands a response on and returns its acknowledgement, which is a rejection if
// a resource was not understood; the others are in use all the same.
func (c *control) take(res *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: res.GetTypeUrl(), ResponseNonce: res.GetNonce()}
	var wrong []string
	for _, resource := range res.GetResources() {
		if err := c.takeOne(res.GetTypeUrl(), resource); err != nil {
			c.metrics.rejected.Inc()
			wrong = append(wrong, err.Error())
		}
	}
	for _, name := range res.GetRemovedResources() {
		c.mu.Lock()
		delete(c.versions, name)
		c.mu.Unlock()
		c.sink.remove(name)
	}
	if len(wrong) > 0 {
		text := strings.Join(wrong, "; ")
		c.logger.Error("control plane: resources rejected", "error", text)
		ack.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: text[:min(len(text), 4096)]}
	}
	return ack
}

func (c *control) takeOne(typeURL string, resource *discoveryv3.Resource) error {
	name := resource.GetName()
	if typeURL != link.RevisionType {
		return fmt.Errorf("resource %s: type %s was not asked for", name, typeURL)
	}
	spec := new(link.Revision)
	if err := resource.GetResource().UnmarshalTo(spec); err != nil {
		return fmt.Errorf("resource %s: %w", name, err)
	}
	if spec.GetCluster() != name {
		return fmt.Errorf("resource %s: describes cluster %q", name, spec.GetCluster())
	}
	if err := c.sink.apply(name, spec); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, wanted := c.wanted[name]; wanted {
		c.versions[name] = resource.GetVersion()
	}
	return nil
}
