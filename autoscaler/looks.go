package autoscaler

import (
	"time"

	"ebb.dev/ebb/autoscaler/intake"
)

// look is what one reporter said of a revision last, and what of it has held.
type look struct {
	inFlight int // now
	issued   int
	// held is the load that was there at the last two looks, or through the whole last period, in requests; and rate the same as a
	// rate in the unit of the metric.
	held, rate float64
}

// A period shorter than this tells nothing of what holds: an activator reports at once when a revision needs its first pod.
const holds = 50 * time.Millisecond

// after is the look that follows l.
func (l look) after(o *intake.Observation, rps bool) look {
	next := look{inFlight: o.InFlight, issued: o.Issued}
	period := o.To.Sub(o.From)
	switch {
	case period < holds && rps:
		next.issued += l.issued
		next.held, next.rate = l.held, l.rate
	case period < holds:
		next.held = min(l.held, float64(o.InFlight))
		next.rate = next.held
	case rps:
		next.held = float64(min(l.issued, o.Issued))
		next.rate = next.held / period.Seconds()
	case o.Kind == intake.Activator: // its integral is exact
		next.held = min(float64(o.InFlight), o.Concurrency/period.Seconds())
		next.rate = next.held
	default:
		next.held = float64(min(l.inFlight, o.InFlight))
		next.rate = next.held
	}
	return next
}

// surge is the load that has held at all reporters, in the unit of the metric, and in requests.
func surge(looks map[string]look) (load float64, requests int) {
	held := 0.0
	for _, l := range looks {
		held += l.held
		load += l.rate
	}
	return load, int(held)
}
