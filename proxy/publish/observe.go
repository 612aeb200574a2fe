package publish

import (
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
	"ebb.dev/ebb/proxy/xds"
)

// observed are the listeners as config-observability wants them.
func observed(listeners []ir.Listener, o settings.Observability) []ir.Listener {
	out := make([]ir.Listener, len(listeners))
	for i, l := range listeners {
		l.Log = o.RequestLog
		if t := o.Tracing; t.On() {
			l.Tracing = &ir.Tracing{Host: t.Host, Port: t.Port, Path: t.Path, Rate: t.Rate}
		}
		out[i] = l
	}
	return out
}

// collectorOf is the cluster that listeners with tracing need; nil without.
func collectorOf(o settings.Observability) (*xds.Resource, error) {
	if !o.Tracing.On() {
		return nil, nil
	}
	m, err := envoy.Collector(ir.Tracing{Host: o.Tracing.Host, Port: o.Tracing.Port, Path: o.Tracing.Path})
	if err != nil {
		return nil, err
	}
	return xds.NewResource(m.GetName(), m)
}
