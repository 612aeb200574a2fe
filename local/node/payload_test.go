package node

import (
	"testing"
	"time"
)

func TestRenewAt(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for life, after := range map[time.Duration]time.Duration{
		10 * time.Minute: 8 * time.Minute, time.Hour: 48 * time.Minute, 7 * 24 * time.Hour: 24 * time.Hour,
	} {
		if got := renewAt(now, now.Add(life)).Sub(now); got != after {
			t.Errorf("a token of %v is renewed after %v, want %v", life, got, after)
		}
	}
}
