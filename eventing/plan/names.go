package plan

import "strings"

// TopicName is the engine's name of the topic of a Broker or Channel. The UID is in it, so
// that an object that was deleted and made anew never sees the events of the old one.
func TopicName(a Address, uid string) string {
	first := "b."
	if a.Kind == Channel {
		first = "c."
	}
	return first + a.Namespace + "." + a.Name + "." + uid[:min(8, len(uid))]
}

// DeadLetters is the engine's name of the topic that keeps what could not be delivered from a topic.
func DeadLetters(topic string) string { return "d." + topic }

// OwnerOf reads the address back from the name of a topic or of its dead letters, and the first eight
// characters of the UID; false for a name that TopicName did not make.
func OwnerOf(topic string) (a Address, uid string, ok bool) {
	topic = strings.TrimPrefix(topic, "d.")
	switch {
	case strings.HasPrefix(topic, "b."):
		a.Kind = Broker
	case strings.HasPrefix(topic, "c."):
		a.Kind = Channel
	default:
		return Address{}, "", false
	}
	namespace, rest, found := strings.Cut(topic[2:], ".")
	last := strings.LastIndexByte(rest, '.')
	if !found || last < 1 || namespace == "" {
		return Address{}, "", false
	}
	a.Namespace, a.Name = namespace, rest[:last]
	return a, rest[last+1:], true
}

// Path is where the ingress takes events for a topic.
func (a Address) Path() string {
	if a.Kind == Channel {
		return "/channels/" + a.Namespace + "/" + a.Name
	}
	return "/" + a.Namespace + "/" + a.Name
}

// AddressOf reads a path of the ingress; false for one that is no topic's.
func AddressOf(path string) (a Address, ok bool) {
	path, found := strings.CutPrefix(path, "/")
	if !found {
		return Address{}, false
	}
	a.Kind = Broker
	// A namespace "channels" is one like any other: its Brokers have two parts, a Channel has three.
	if rest, is := strings.CutPrefix(path, "channels/"); is && strings.Count(strings.TrimSuffix(rest, "/"), "/") == 1 {
		a.Kind, path = Channel, rest
	}
	a.Namespace, a.Name, found = strings.Cut(strings.TrimSuffix(path, "/"), "/")
	if !found || a.Namespace == "" || a.Name == "" || strings.Contains(a.Name, "/") {
		return Address{}, false
	}
	return a, true
}
