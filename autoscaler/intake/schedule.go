package intake

import (
	"math"
	"time"
)

// schedule says when a reporter is to look next. A gateway's report is one look at how many requests are in flight, so when it looks
// decides what the average is worth.
//
// Time is cut into spans of one length, and each is looked at once, at some moment of it: whatever the load does, the mean of such
// looks is its average. Where in their spans the looks are is no plain chance: each sixteenth of the span gets as many as any other, and inside of
// a sixteenth they are spread evenly too. So load that comes in step with the reports, or several times in each span, is met in all of
// its course, and in a minute as exactly as 600 looks can.
//
// Every look stands for one span, whatever time has passed since the one before: weighed by that time, late moments of a span would
// count more (see load.look).
type schedule struct {
	least, most time.Duration // between two looks
	random      func() float64

	begun   time.Time
	span    int64 // in which the next look is
	counted int64 // the last span that was accounted for
	looks   [sixteenths]uint32
	spread  float64
}

const (
	sixteenths = 16
	golden     = 0.6180339887498949
)

func (s *schedule) length() time.Duration { return (s.least + s.most) / 2 }

// next is how long after now the reporter is to look. Call it once for each look.
func (s *schedule) next(now time.Time) time.Duration {
	if s.begun.IsZero() {
		s.begun, s.spread = now.Add(-s.length()), s.random()
	}
	length := float64(s.length())
	// Where in the next span the look may be, of its length.
	s.span++
	since := float64(now.Sub(s.begun))/length - float64(s.span)
	low, high := since+float64(s.least)/length, since+float64(s.most)/length
	if low > 0.9 { // the last look came late and takes the place of those missed
		missed := math.Ceil(low - 0.9)
		s.span += int64(missed)
		low, high = low-missed, high-missed
	}
	at := s.moment(low, high)
	when := s.begun.Add(time.Duration((float64(s.span) + at) * length))
	return min(max(when.Sub(now), s.least/2), 2*s.most)
}

// moment picks where in its span the look is: in one of the sixteenths allowed that had the fewest looks.
func (s *schedule) moment(low, high float64) float64 {
	best, found := -1, 0.0
	for i := range s.looks {
		if middle := (float64(i) + 0.5) / sixteenths; middle < low || middle > high {
			continue
		}
		switch {
		case best < 0 || s.looks[i] < s.looks[best]:
			best, found = i, 1
		case s.looks[i] == s.looks[best]:
			if found++; s.random()*found < 1 {
				best = i
			}
		}
	}
	if best < 0 { // the bounds leave no room
		best = int(s.random() * sixteenths)
	}
	_, inside := math.Modf(s.spread + float64(s.looks[best])*golden)
	s.looks[best]++
	return (float64(best) + inside) / sixteenths
}

// stands is the time that a look stands for which has come in; 0 for one that nobody asked for.
func (s *schedule) stands() time.Duration {
	spans := s.span - s.counted
	s.counted = s.span
	return min(time.Duration(spans)*s.length(), maxPeriod)
}
