package envoy

import (
	"errors"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	heapMonitor        = "envoy.resource_monitors.fixed_heap"
	connectionsMonitor = "envoy.resource_monitors.global_downstream_max_connections"

	overloadRefresh    = 100 * time.Millisecond
	overloadRetryAfter = "1" // seconds

	// Parts of the heap that a gateway may use: where it begins to give memory back to the system, to
	// drop connections that wait for nothing, to reset the streams that hold most, to answer new
	// requests with 503, and to end whatever still sends.
	shrinkAt      = 0.90
	timeoutsFrom  = 0.85
	idleAt        = 0.92
	resetFrom     = 0.93
	refuseAt      = 0.95
	endAt         = 0.98
	shortestIdle  = 10 * time.Second
	resetFromSize = 18 // a power of two, bytes: streams with less are not looked at
)

// OverloadLimits are what a gateway may use; zero is no bound.
type OverloadLimits struct {
	HeapBytes   uint64
	Connections uint32 // of clients, on all listeners
}

// overloadManager keeps a gateway within its limits: it sheds load, worst first, rather
// than be ended by the system with every request it has.
func overloadManager(l OverloadLimits) (*overloadv3.OverloadManager, error) {
	if l == (OverloadLimits{}) {
		return nil, nil
	}
	m := &overloadv3.OverloadManager{RefreshInterval: span(overloadRefresh)}
	if l.Connections > 0 {
		monitor, err := typed(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(l.Connections)})
		if err != nil {
			return nil, err
		}
		m.ResourceMonitors = append(m.ResourceMonitors, resourceMonitor(connectionsMonitor, monitor))
	}
	if l.HeapBytes == 0 {
		return m, nil
	}
	monitor, err := typed(&heapv3.FixedHeapConfig{MaxHeapSizeBytes: l.HeapBytes})
	idle, errIdle := typed(&overloadv3.ScaleTimersOverloadActionConfig{
		TimerScaleFactors: []*overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer{{
			Timer:          overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_IDLE,
			OverloadAdjust: &overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer_MinTimeout{MinTimeout: span(shortestIdle)},
		}},
	})
	if err := errors.Join(err, errIdle); err != nil {
		return nil, err
	}
	m.ResourceMonitors = append(m.ResourceMonitors, resourceMonitor(heapMonitor, monitor))
	m.BufferFactoryConfig = &overloadv3.BufferFactoryConfig{MinimumAccountToTrackPowerOfTwo: resetFromSize}
	m.Actions = []*overloadv3.OverloadAction{
		{Name: "envoy.overload_actions.reduce_timeouts", TypedConfig: idle, Triggers: between(timeoutsFrom, refuseAt)},
		{Name: "envoy.overload_actions.shrink_heap", Triggers: above(shrinkAt)},
		{Name: "envoy.overload_actions.close_idle_http_connections", Triggers: above(idleAt)},
		{Name: "envoy.overload_actions.reset_high_memory_stream", Triggers: between(resetFrom, endAt)},
		{Name: "envoy.overload_actions.disable_http_keepalive", Triggers: above(refuseAt)},
		{Name: "envoy.overload_actions.stop_accepting_requests", Triggers: above(refuseAt)},
	}
	m.LoadshedPoints = []*overloadv3.LoadShedPoint{
		{Name: "envoy.load_shed_points.http1_server_abort_dispatch", Triggers: above(endAt)},
		{Name: "envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch", Triggers: above(endAt)},
	}
	return m, nil
}

func resourceMonitor(name string, config *anypb.Any) *overloadv3.ResourceMonitor {
	return &overloadv3.ResourceMonitor{Name: name, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: config}}
}

// above is a trigger at one part of the heap.
func above(part float64) []*overloadv3.Trigger {
	return []*overloadv3.Trigger{{
		Name:         heapMonitor,
		TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: part}},
	}}
}

// between is a trigger that grows from nothing at one part of the heap to all at another.
func between(from, to float64) []*overloadv3.Trigger {
	return []*overloadv3.Trigger{{
		Name:         heapMonitor,
		TriggerOneof: &overloadv3.Trigger_Scaled{Scaled: &overloadv3.ScaledTrigger{ScalingThreshold: from, SaturationThreshold: to}},
	}}
}

// saysOverloaded makes the answer to what is refused for want of memory say so, and when to
// come again.
func saysOverloaded() (*hcmv3.LocalReplyConfig, error) {
	refused, err := typed(&celv3.ExpressionFilter{Expression: `response.code_details == "overload"`})
	if err != nil {
		return nil, err
	}
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
			ExtensionFilter: &accesslogv3.ExtensionFilter{
				Name:       "envoy.access_loggers.extension_filters.cel",
				ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: refused},
			},
		}},
		Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
			InlineString: "the gateway is overloaded, nothing of the request was passed on: try again\n",
		}},
		HeadersToAdd: []*corev3.HeaderValueOption{setHeader("retry-after", overloadRetryAfter)},
	}}}, nil
}
