package settings

import (
	"strings"
	"testing"
	"time"
)

func TestEventing(t *testing.T) {
	e := Default().Eventing
	if e.Replicas != 1 || e.MaxBytes != 1<<30 || e.Delivery.Retry != 10 || e.Delivery.BackoffDelay != 200*time.Millisecond || e.HopLimit != 255 {
		t.Errorf("the defaults are %+v", e)
	}
	s, err := Default().With(ConfigEventing, map[string]string{
		"replicas": "3", "max-bytes": "10Gi", "max-age": "72h", "delivery-backoff-policy": "Linear", "delivery-retry": "0", "event-types-max": "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := s.Eventing; e.Replicas != 3 || e.MaxBytes != 10<<30 || e.MaxAge != 72*time.Hour || e.Delivery.BackoffPolicy != "linear" || e.Delivery.Retry != 0 || e.EventTypesMax != 0 {
		t.Errorf("taken as %+v", e)
	}
}

func TestEventingRefusals(t *testing.T) {
	for _, of := range []struct{ key, value, says string }{
		{"replicas", "6", "outside 1..5"},
		{"max-bytes", "1", "outside"},
		{"max-bytes", "lots", "not an amount"},
		{"max-age", "1s", "below duplicates-window"},
		{"delivery-backoff-policy", "random", "not one of"},
		{"delivery-timeout", "0s", "outside"},
		{"hop-limit", "0", "outside"},
		{"max-event-bytez", "1Mi", "did you mean"},
	} {
		_, err := Default().With(ConfigEventing, map[string]string{of.key: of.value})
		if err == nil || !strings.Contains(err.Error(), ConfigEventing+"/"+of.key) || !strings.Contains(err.Error(), of.says) {
			t.Errorf("%s: %s: %v, want an error that says %q", of.key, of.value, err, of.says)
		}
	}
}
