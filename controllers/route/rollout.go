package route

import (
	"slices"
	"time"
)

// minStep is the least time between two steps of a rollout. A step costs a status write
// and an update of the gateways; a shorter duration takes larger steps.
const minStep = time.Second

// share is a part of a Route's traffic, in whole percent of all of it.
type share struct {
	Revision string `json:"revision"`
	Percent  int64  `json:"percent"`
}

// rollout is one target of a Route on its way from older Revisions to a newer one: all
// that has to be known to go on, at any moment and after a restart. What it does next is
// a function of it and the time.
type rollout struct {
	Configuration string `json:"configuration"`
	Tag           string `json:"tag,omitempty"`
	// Percent of the target, which From and Begin sum to.
	Percent int64 `json:"percent"`
	// From has the older Revisions, the oldest first, with their shares when this began.
	From []share `json:"from"`
	// To is the Revision that gets everything in the end. Begin is its share when this
	// began, Share its share now.
	To    string `json:"to"`
	Begin int64  `json:"begin"`
	Share int64  `json:"share"`
	// Since is when it had Begin; a pause moves it.
	Since time.Time `json:"since"`
	// Paused: To failed, and its share stays until it is ready again.
	Paused bool `json:"paused,omitempty"`
}

// begin starts to move everything that from has to the Revision to: it gets one percent,
// or what it has already.
func begin(from []share, to string, now time.Time) rollout {
	r := rollout{To: to, Since: now}
	for _, s := range from {
		r.Percent += s.Percent
		switch {
		case s.Revision == to:
			r.Begin += s.Percent
		case s.Percent > 0:
			r.From = append(r.From, s)
		}
	}
	if r.Begin == 0 && r.Percent > 0 {
		r.From, r.Begin = drain(r.From, 1), 1
	}
	r.Share = r.Begin
	return r
}

// at is the rollout at a moment, and when it changes next (zero when it does not by
// itself). duration is that of the whole way; 0 or less ends it at once. The share never
// falls, whatever happens to the duration.
func (r rollout) at(now time.Time, duration time.Duration, healthy bool) (rollout, time.Time) {
	if !healthy {
		r.Paused = true
		return r, time.Time{}
	}
	if duration <= 0 || r.done() {
		r.Share, r.Paused = r.Percent, false
		return r, time.Time{}
	}
	size, interval := r.steps(duration)
	if r.Paused || now.Before(r.Since) {
		// The time of a pause does not count: as if the last step had been taken now. So too after a clock that was set back.
		taken := (r.Share - r.Begin + size - 1) / size
		r.Since, r.Paused = now.Add(-time.Duration(taken)*interval), false
	}
	taken := min(max(int64(now.Sub(r.Since)/interval), 0), r.Percent)
	r.Share = max(r.Share, min(r.Begin+taken*size, r.Percent))
	if r.done() {
		return r, time.Time{}
	}
	return r, r.Since.Add(time.Duration((r.Share-r.Begin)/size+1) * interval)
}

// steps are equal, in whole percents, and the last one is taken at the end of duration.
func (r rollout) steps(duration time.Duration) (size int64, interval time.Duration) {
	way := r.Percent - r.Begin
	n := max(min(way, int64(duration/minStep)), 1)
	size = (way + n - 1) / n
	return size, duration / time.Duration((way+size-1)/size)
}

func (r rollout) done() bool { return r.Share >= r.Percent || len(r.From) == 0 }

// shares are those of now, the oldest Revision first and To last; none is 0.
func (r rollout) shares() []share {
	if r.done() {
		return []share{{r.To, r.Percent}}
	}
	return append(drain(r.From, r.Share-r.Begin), share{r.To, r.Share})
}

// drain takes percents away, from the newest first: the oldest one has been good the
// longest. What has nothing left is left out.
func drain(from []share, percent int64) []share {
	out := slices.Clone(from)
	for i := len(out) - 1; i >= 0 && percent > 0; i-- {
		n := min(out[i].Percent, percent)
		out[i].Percent -= n
		percent -= n
	}
	return slices.DeleteFunc(out, func(s share) bool { return s.Percent <= 0 })
}

// scaled is the rollout of a target that has another percent now: everybody keeps the
// part of the target that it had, the time begins anew.
func (r rollout) scaled(percent int64, now time.Time) rollout {
	shares, left := r.shares(), percent
	for i := range shares {
		shares[i].Percent = shares[i].Percent * percent / r.Percent
		if shares[i].Revision == r.To {
			shares[i].Percent = max(shares[i].Percent, 1)
		}
		left -= shares[i].Percent
	}
	shares[0].Percent += left
	next := begin(shares, r.To, now)
	next.Configuration, next.Tag, next.Paused = r.Configuration, r.Tag, r.Paused
	return next
}

// without leaves out Revisions that are gone; the oldest one that is there gets their share.
func (r rollout) without(gone func(revision string) bool) rollout {
	var from []share
	var lost int64
	for _, s := range r.From {
		if gone(s.Revision) {
			lost += s.Percent
		} else {
			from = append(from, s)
		}
	}
	if lost > 0 && len(from) > 0 {
		from[0].Percent += lost
	}
	r.From = from
	return r
}
