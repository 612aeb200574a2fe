package gc

import (
	"cmp"
	"slices"
	"time"

	"ebb.dev/ebb/apis/settings"
)

// candidate is a Revision that serves nobody and may be deleted.
type candidate struct {
	name    string
	created time.Time
	active  time.Time // when a Route led to it last; when it was created if none did
}

// collect returns which of the candidates go now, the one first that has been idle for
// the longest, and when that changes though nothing else does (zero: never). Above the
// least number those go whose both times of retention are over; above the greatest
// number go the oldest, however young.
func collect(all []candidate, s settings.GC, now time.Time) (gone []string, next time.Time) {
	left := slices.Clone(all)
	slices.SortFunc(left, func(a, b candidate) int {
		return cmp.Or(a.active.Compare(b.active), a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
	kept := left[:0]
	spare := int64(len(left)) - s.MinNonActiveRevisions
	for _, c := range left {
		at, ever := stale(c, s)
		if ever && spare > 0 && !now.Before(at) {
			gone = append(gone, c.name)
			spare--
			continue
		}
		kept = append(kept, c)
	}
	if s.MaxNonActiveRevisions != settings.Never {
		for int64(len(kept)) > s.MaxNonActiveRevisions {
			gone = append(gone, kept[0].name)
			kept = kept[1:]
			spare--
		}
	}
	if spare <= 0 {
		return gone, time.Time{} // the rest stays, whatever the time
	}
	for _, c := range kept {
		if at, ever := stale(c, s); ever && at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return gone, next
}

// stale is when a Revision may go for its age; ever is false when age is no reason.
func stale(c candidate, s settings.GC) (at time.Time, ever bool) {
	if s.RetainSinceCreateTime != settings.Never {
		at, ever = c.created.Add(s.RetainSinceCreateTime), true
	}
	if s.RetainSinceLastActiveTime != settings.Never {
		if t := c.active.Add(s.RetainSinceLastActiveTime); !ever || t.After(at) {
			at, ever = t, true
		}
	}
	return at, ever
}
