package user

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ebb.dev/ebb/autoscaler/intake"
	"ebb.dev/ebb/proxy/xds"
)

// controllerStatus is what the controller answers on /status.
type controllerStatus struct {
	Version   string            `json:"version"`
	Streams   []xds.StreamInfo  `json:"streams"`
	Reporters []intake.Reporter `json:"reporters"`
}

// connected is a line about the gateways or activators on the controller's discovery
// server: how many, and whether they have all they were sent. An activator that reports
// load is there even while it has nothing to ask for. Empty when the controller was not
// asked.
func connected(text json.RawMessage, role xds.Role) string {
	var status controllerStatus
	if len(text) == 0 || json.Unmarshal(text, &status) != nil {
		return ""
	}
	nodes, pending := map[string]bool{}, 0
	var rejected []string
	for _, r := range status.Reporters {
		if r.Kind == intake.Activator && role == xds.Activator {
			nodes[r.Node] = true
		}
	}
	for _, stream := range status.Streams {
		if stream.Role != role {
			continue
		}
		nodes[stream.Node] = true
		for _, t := range stream.Types {
			pending += t.Pending
		}
		for _, r := range stream.Rejected {
			rejected = append(rejected, r.String())
		}
	}
	switch {
	case len(nodes) == 0:
		return "none connected"
	case pending > 0:
		text := fmt.Sprintf("%d connected, %d versions on their way", len(nodes), pending)
		return strings.Join(append([]string{text}, rejected...), "\n")
	}
	return strings.Join(append([]string{fmt.Sprintf("%d connected, up to date", len(nodes))}, rejected...), "\n")
}

// reporting is a line about who reports load: "3 report, the last one 2s ago".
func reporting(text json.RawMessage, now time.Time) string {
	var status controllerStatus
	if len(text) == 0 || json.Unmarshal(text, &status) != nil {
		return ""
	}
	if len(status.Reporters) == 0 {
		return "from nobody"
	}
	var parts []string
	for _, r := range status.Reporters {
		last := "none yet"
		if !r.Last.IsZero() {
			last = now.Sub(r.Last).Round(time.Second).String() + " ago"
		}
		parts = append(parts, r.Node+" "+last)
	}
	return strings.Join(parts, ", ")
}
