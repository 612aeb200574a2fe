package duck

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT0.2S": 200 * time.Millisecond, "PT0,2S": 200 * time.Millisecond, "PT1M30S": 90 * time.Second, "P1D": 24 * time.Hour,
		"P1DT12H": 36 * time.Hour, "P2W": 14 * 24 * time.Hour, "PT0S": 0, "PT1.5H": 90 * time.Minute, "PT100M": 100 * time.Minute,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%s) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "P", "PT", "1S", "PT1", "PTS", "P1M", "P1Y", "PT1S1M", "PT1S1S", "P1DT", "PT-1S", "-PT1S", "PT.S", "PT1.S", "PT.5S", "PT1.2.3S", "T1S", "pt1s",
		"PT99999999999999999999H", "5m", "PT1Sé", "PTé",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("PT0.2S")
	f.Add("P1DT2H3M4S")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && d < 0 {
			t.Errorf("ParseDuration(%q) = %v", text, d)
		}
	})
}
