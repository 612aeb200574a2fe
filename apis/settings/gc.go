package settings

import (
	"math"
	"strings"
	"time"
)

// Never is the value of a limit that is disabled.
const Never = -1

// GC is config-gc: which Revisions without a Route are deleted.
type GC struct {
	// RetainSinceCreateTime and RetainSinceLastActiveTime keep a Revision that long; Never
	// keeps none of them from being counted.
	RetainSinceCreateTime     time.Duration
	RetainSinceLastActiveTime time.Duration
	// MinNonActiveRevisions are always kept.
	MinNonActiveRevisions int64
	// MaxNonActiveRevisions: above that the oldest go, however young; Never is no such limit.
	MaxNonActiveRevisions int64
}

const disabledLimit = "disabled"

func parseGC(p *parser) GC {
	gc := GC{
		RetainSinceCreateTime:     48 * time.Hour,
		RetainSinceLastActiveTime: 15 * time.Hour,
		MinNonActiveRevisions:     20,
		MaxNonActiveRevisions:     1000,
	}
	retain := func(key string, into *time.Duration) {
		if v, _ := p.lookup(key); strings.EqualFold(v, disabledLimit) {
			*into = Never
			return
		}
		p.duration(key, into, 0, math.MaxInt64)
	}
	retain("retain-since-create-time", &gc.RetainSinceCreateTime)
	retain("retain-since-last-active-time", &gc.RetainSinceLastActiveTime)
	p.integer("min-non-active-revisions", &gc.MinNonActiveRevisions, 0, math.MaxInt32)
	if v, _ := p.lookup("max-non-active-revisions"); strings.EqualFold(v, disabledLimit) {
		gc.MaxNonActiveRevisions = Never
	} else {
		p.integer("max-non-active-revisions", &gc.MaxNonActiveRevisions, 0, math.MaxInt32)
		if gc.MaxNonActiveRevisions < gc.MinNonActiveRevisions {
			p.bad("max-non-active-revisions", "%d is below min-non-active-revisions %d", gc.MaxNonActiveRevisions, gc.MinNonActiveRevisions)
		}
	}
	p.accept("stale-revision-create-delay", "stale-revision-timeout", "stale-revision-minimum-generations",
		"stale-revision-lastpinned-debounce", "responsive-revision-gc")
	return gc
}
