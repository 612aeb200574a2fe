package jetstream

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"ebb.dev/ebb/eventing/event"
)

const (
	streamPrefix  = "EBB-"
	subjectPrefix = "ebb.events."
	nameMeta      = "ebb.dev/name"     // of a stream and of a consumer: what they are called above
	keepAllMeta   = "ebb.dev/keep-all" // of a stream: "true"
	longest       = 180                // characters of a name; NATS makes files of them
)

func streamName(topic string) string    { return streamPrefix + safe(topic) }
func subjectName(topic string) string   { return subjectPrefix + safe(topic) }
func consumerName(subscr string) string { return safe(subscr) }

// safe maps different names to different ones that NATS takes: letters, digits and dashes stay,
// a dot is an underscore, and anything else is = and two hexadecimal digits a byte. The end
// of a name that gets too long is its hash.
func safe(name string) string {
	out := make([]byte, 0, len(name)+8)
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
			out = append(out, c)
		case c == '.':
			out = append(out, '_')
		default:
			out = append(out, '=')
			out = hex.AppendEncode(out, []byte{c})
		}
	}
	if len(out) > longest {
		sum := sha256.Sum256([]byte(name))
		out = append(out[:longest-34], "=="...)
		out = hex.AppendEncode(out, sum[:16])
	}
	return string(out)
}

// messageID is what the stream knows duplicates by: source and id, joined so that no two pairs
// give one text. Long ones and ones that no header takes are hashed: the server keeps every
// message id of the window in memory.
func messageID(e *event.Event) string {
	if len(e.Source)+len(e.ID) <= 80 && plain(e.Source) && plain(e.ID) {
		return strconv.Itoa(len(e.Source)) + ":" + e.Source + e.ID
	}
	hash := sha256.New()
	hash.Write([]byte(strconv.Itoa(len(e.Source)) + ":"))
	hash.Write([]byte(e.Source))
	hash.Write([]byte(e.ID))
	return "#" + base64.RawURLEncoding.EncodeToString(hash.Sum(nil))
}

func plain(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
