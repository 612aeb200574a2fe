package activator

import "time"

// load counts one revision's requests between two reports. It is pure; the
// revision calls it under its lock. Times are durations since the process began.
type load struct {
	inProgress int     // here now, waiting or forwarded
	area       float64 // integral of inProgress over time since the last report, request·ns
	changed    time.Duration
	reported   time.Duration
	issued     uint64 // arrived since the last report
	succeeded  uint64 // ended since the last report
	failed     uint64
}

// sample is what a report says of one revision.
type sample struct {
	interval                  time.Duration
	inProgress                int
	concurrencyMS             float64 // request·ms
	issued, succeeded, failed uint64
	coldHeld, coldProbed      time.Duration // of a start from zero that is over; 0: there was none
}

func (s sample) idle() bool {
	return s.coldHeld == 0 && s.inProgress == 0 && s.issued == 0 && s.concurrencyMS == 0
}

func (l *load) advance(now time.Duration) {
	if d := now - l.changed; d > 0 {
		l.area += float64(l.inProgress) * float64(d)
		l.changed = now
	}
}

func (l *load) arrive(now time.Duration) {
	l.advance(now)
	l.inProgress++
	l.issued++
}

func (l *load) end(now time.Duration, ok bool) {
	l.advance(now)
	l.inProgress--
	if ok {
		l.succeeded++
	} else {
		l.failed++
	}
}

// take returns what happened since the last take and begins the next interval.
func (l *load) take(now time.Duration) sample {
	l.advance(now)
	s := sample{
		interval: max(now-l.reported, time.Nanosecond), inProgress: l.inProgress,
		concurrencyMS: l.area / float64(time.Millisecond),
		issued:        l.issued, succeeded: l.succeeded, failed: l.failed,
	}
	l.area, l.issued, l.succeeded, l.failed = 0, 0, 0, 0
	l.reported = now
	return s
}
