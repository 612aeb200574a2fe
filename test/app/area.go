package main

import (
	"sync"
	"time"
)

// area is the integral of the requests in progress over time: the sum of their durations so far, those of the ones in progress included.
type area struct {
	mu      sync.Mutex
	now     int
	changed time.Time
	sum     float64 // request·seconds
}

// change adds to the requests in progress and returns the sum.
func (a *area) change(by int) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := time.Now()
	a.sum += float64(a.now) * t.Sub(a.changed).Seconds()
	a.now, a.changed = a.now+by, t
	return a.sum
}
