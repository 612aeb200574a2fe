// Package eventtype makes an EventType for each type and source of events that a Broker takes, and says
// of every EventType whether what has its events is there.
//
// The ingress calls Recorder.Seen for every event; what it costs there is one look into a map. The
// number of EventTypes of a Broker, and of the sources of one type, is bounded.
package eventtype
