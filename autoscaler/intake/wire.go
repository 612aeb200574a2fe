package intake

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A report is read straight from its wire form. Every message of an Envoy carries its node with tens of KB of
// extension names, and one report has thousands of small messages; decoding them into Go values made
// garbage of several times their size ten times a second. Field numbers are those of
// envoy/service/load_stats/v3/lrs.proto and envoy/config/endpoint/v3/load_report.proto.

// concurrencyMetric is what activators report instead of a sample: the integral of requests in progress
// over load_report_interval, in request·milliseconds.
const concurrencyMetric = "ebb.concurrency_ms"

// How long the first request of a start from zero was held, and when a pod served, in
// milliseconds since that request: once, after the start.
const (
	coldHeldMetric   = "ebb.cold_held_ms"
	coldProbedMetric = "ebb.cold_probed_ms"
)

// node is who reports.
type node struct{ id, cluster string }

// clusterReport is a ClusterStats. Byte slices point into the message.
type clusterReport struct {
	name       []byte
	interval   time.Duration
	localities [][]byte
}

// localityReport is an UpstreamLocalityStats.
type localityReport struct {
	inProgress, issued uint64
	priority           uint64
	exact              bool
	concurrencyMillis  float64
	coldHeld           time.Duration // 0: there was no start
	coldProbed         time.Duration
	endpoints          [][]byte
}

// endpointReport is an UpstreamEndpointStats with a socket address.
type endpointReport struct {
	host               []byte
	port               uint64
	inProgress, issued uint64
}

var errWire = errors.New("malformed load report")

// fields calls f for each field of a message. v is set for varint and fixed64 fields, b for bytes.
func fields(msg []byte, f func(num protowire.Number, v uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return fmt.Errorf("%w: %w", errWire, protowire.ParseError(n))
		}
		msg = msg[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(msg)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", errWire, num, protowire.ParseError(n))
		}
		msg = msg[n:]
		if err := f(num, v, b); err != nil {
			return err
		}
	}
	return nil
}

func parseNode(msg []byte) (n node, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			n.id = string(b)
		case 2:
			n.cluster = string(b)
		}
		return nil
	})
	return n, err
}

func (c *clusterReport) parse(msg []byte) error {
	c.name, c.interval, c.localities = nil, 0, c.localities[:0]
	return fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			c.name = b
		case 2:
			c.localities = append(c.localities, b)
		case 4:
			return fields(b, func(num protowire.Number, v uint64, _ []byte) error {
				switch num {
				case 1:
					c.interval += time.Duration(min(v, 3600)) * time.Second
				case 2:
					c.interval += time.Duration(min(v, 1e9))
				}
				return nil
			})
		}
		return nil
	})
}

func (l *localityReport) parse(msg []byte) error {
	*l = localityReport{endpoints: l.endpoints[:0]}
	return fields(msg, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 3:
			l.inProgress = v
		case 5:
			var name []byte
			var value float64
			err := fields(b, func(num protowire.Number, v uint64, b []byte) error {
				switch num {
				case 1:
					name = b
				case 3:
					value = math.Float64frombits(v)
				}
				return nil
			})
			if !(value >= 0 && value <= math.MaxFloat64) {
				return err
			}
			switch string(name) {
			case concurrencyMetric:
				l.exact, l.concurrencyMillis = true, value
			case coldHeldMetric:
				l.coldHeld = span(value)
			case coldProbedMetric:
				l.coldProbed = span(value)
			}
			return err
		case 6:
			l.priority = v
		case 7:
			l.endpoints = append(l.endpoints, b)
		case 8:
			l.issued = v
		}
		return nil
	})
}

// span is milliseconds that a reporter claims, up to an hour.
func span(ms float64) time.Duration {
	return time.Duration(min(ms, 3600e3) * float64(time.Millisecond))
}

func (e *endpointReport) parse(msg []byte) error {
	*e = endpointReport{}
	return fields(msg, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 1: // core.v3.Address
			return fields(b, func(num protowire.Number, _ uint64, b []byte) error {
				if num != 1 { // socket_address
					return nil
				}
				return fields(b, func(num protowire.Number, v uint64, b []byte) error {
					switch num {
					case 2:
						e.host = b
					case 3:
						e.port = v
					}
					return nil
				})
			})
		case 3:
			e.inProgress = v
		case 7:
			e.issued = v
		}
		return nil
	})
}
