package activator

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ConcurrencyMetric is the name of the load metric that carries, as its total, the
// integral of the requests in progress over the report's interval, in request·ms.
const ConcurrencyMetric = "ebb.concurrency_ms"

const (
	defaultReportInterval = 100 * time.Millisecond // until the server names one
	heartbeat             = time.Second            // between reports when there is nothing to say
)

// reporter is the load reporting client: it tells of every revision with requests,
// when the server asks and at once when one needs its first pod. A revision that
// went idle is reported once more, with zeros.
type reporter struct {
	node    *corev3.Node
	client  loadv3.LoadReportingServiceClient
	logger  *slog.Logger
	metrics *metrics

	mu     sync.Mutex
	active map[*revision]struct{}
	urgent map[*revision]struct{}
	wake   chan struct{} // urgent is not empty
}

func newReporter(node string, conn grpc.ClientConnInterface, logger *slog.Logger, m *metrics) *reporter {
	return &reporter{
		node:   &corev3.Node{Id: node, Cluster: nodeCluster},
		client: loadv3.NewLoadReportingServiceClient(conn),
		logger: logger, metrics: m,
		active: map[*revision]struct{}{}, urgent: map[*revision]struct{}{}, wake: make(chan struct{}, 1),
	}
}

func (p *reporter) activate(r *revision) {
	p.mu.Lock()
	p.active[r] = struct{}{}
	p.mu.Unlock()
}

func (p *reporter) poke(r *revision) {
	p.metrics.pokes.Inc()
	p.mu.Lock()
	p.urgent[r] = struct{}{}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run keeps a stream until ctx ends; then it says a last time what there is.
func (p *reporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.stream(ctx); ctx.Err() == nil {
			p.logger.Debug("load reports: stream lost", "error", err)
			pause(ctx)
		}
	}
}

func (p *reporter) stream(ctx context.Context) error {
	// The stream outlives ctx for the last report.
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	opening := context.AfterFunc(ctx, cancel)
	s, err := p.client.StreamLoadStats(live)
	if !opening() || err != nil {
		return cmp.Or(err, ctx.Err())
	}
	if err := s.Send(&loadv3.LoadStatsRequest{Node: p.node, ClusterStats: p.all()}); err != nil {
		return err
	}

	intervals := make(chan time.Duration, 1)
	broken := make(chan error, 1)
	go func() {
		for {
			res, err := s.Recv()
			if err != nil {
				broken <- err
				return
			}
			d := res.GetLoadReportingInterval().AsDuration()
			if d <= 0 {
				continue
			}
			select { // only the latest counts
			case <-intervals:
			default:
			}
			select {
			case intervals <- d:
			case <-live.Done():
			}
		}
	}()

	interval, said := defaultReportInterval, time.Now()
	timer := time.NewTimer(interval)
	defer timer.Stop()
	asked := false // a response is to be answered with a report, also with an empty one
	for {
		var stats []*endpointv3.ClusterStats
		select {
		case err := <-broken:
			return err
		case interval = <-intervals:
			asked = true
			timer.Reset(max(0, interval-time.Since(said)))
			continue
		case <-p.wake:
			if stats = p.taken(&p.urgent, false); len(stats) == 0 {
				continue
			}
		case <-timer.C:
			timer.Reset(interval)
			stats = p.all()
			if len(stats) == 0 && !asked && time.Since(said) < heartbeat {
				continue
			}
			said, asked = time.Now(), false
		case <-ctx.Done():
			_ = s.Send(&loadv3.LoadStatsRequest{ClusterStats: p.all()})
			return s.CloseSend()
		}
		if err := s.Send(&loadv3.LoadStatsRequest{ClusterStats: stats}); err != nil {
			if errors.Is(err, io.EOF) {
				err = <-broken
			}
			return err
		}
		p.metrics.reports.Inc()
	}
}

// all returns what happened to every active revision.
func (p *reporter) all() []*endpointv3.ClusterStats { return p.taken(&p.active, true) }

// taken empties one of the sets and returns the stats of its revisions, sorted by
// cluster. Those that are not idle are active afterwards.
func (p *reporter) taken(from *map[*revision]struct{}, all bool) []*endpointv3.ClusterStats {
	p.mu.Lock()
	if len(*from) == 0 {
		p.mu.Unlock()
		return nil
	}
	set := *from
	*from = make(map[*revision]struct{}, len(set))
	p.mu.Unlock()

	stats := make([]*endpointv3.ClusterStats, 0, len(set))
	var still []*revision
	for r := range set {
		s, ends := r.takeLoad(all)
		if !s.idle() {
			still = append(still, r)
		}
		stats = append(stats, clusterStats(r.name, s, ends))
	}
	p.mu.Lock()
	for _, r := range still {
		p.active[r] = struct{}{}
	}
	p.mu.Unlock()
	slices.SortFunc(stats, func(a, b *endpointv3.ClusterStats) int { return cmp.Compare(a.ClusterName, b.ClusterName) })
	return stats
}

// clusterStats is one revision's part of a report.
func clusterStats(name string, s sample, ends []endpointLoad) *endpointv3.ClusterStats {
	slices.SortFunc(ends, func(a, b endpointLoad) int { return a.endpoint.Compare(b.endpoint) })
	locality := &endpointv3.UpstreamLocalityStats{
		Locality:                &corev3.Locality{},
		TotalRequestsInProgress: uint64(max(0, s.inProgress)),
		TotalIssuedRequests:     s.issued,
		TotalSuccessfulRequests: s.succeeded,
		TotalErrorRequests:      s.failed,
		LoadMetricStats:         s.loadMetrics(),
	}
	for _, e := range ends {
		locality.UpstreamEndpointStats = append(locality.UpstreamEndpointStats, &endpointv3.UpstreamEndpointStats{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address:       e.endpoint.Addr().String(),
				PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(e.endpoint.Port())},
			}}},
			TotalRequestsInProgress: uint64(max(0, e.inFlight)),
			TotalIssuedRequests:     e.issued,
		})
	}
	return &endpointv3.ClusterStats{
		ClusterName:           name,
		UpstreamLocalityStats: []*endpointv3.UpstreamLocalityStats{locality},
		LoadReportInterval:    durationpb.New(s.interval),
	}
}
