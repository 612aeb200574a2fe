package ir

import (
	"encoding/json"
	"fmt"
	"time"
)

// In JSON and YAML, which people read in golden files and dumps, times are written
// as Go writes them: "1m30s".
type timeoutsText struct {
	Request       string `json:",omitempty"`
	ResponseStart string `json:",omitempty"`
	Idle          string `json:",omitempty"`
}

// MarshalJSON writes times as text and leaves zeros out.
func (t Timeouts) MarshalJSON() ([]byte, error) {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(timeoutsText{text(t.Request), text(t.ResponseStart), text(t.Idle)})
}

// UnmarshalJSON reads what MarshalJSON writes. An error names the field.
func (t *Timeouts) UnmarshalJSON(data []byte) error {
	var text timeoutsText
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		into       *time.Duration
	}{
		{"Request", text.Request, &t.Request},
		{"ResponseStart", text.ResponseStart, &t.ResponseStart},
		{"Idle", text.Idle, &t.Idle},
	} {
		*f.into = 0
		if f.text == "" {
			continue
		}
		d, err := time.ParseDuration(f.text)
		if err != nil {
			return fmt.Errorf("timeouts: %s: %w", f.name, err)
		}
		*f.into = d
	}
	return nil
}
