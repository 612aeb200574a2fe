package event

import (
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Error says what is wrong with an event, for the one who sent it.
type Error struct {
	Attribute string // "": not of one attribute
	Reason    string // begins with a verb: "is missing"
}

func (e *Error) Error() string {
	if e.Attribute == "" {
		return "the event " + e.Reason
	}
	return "attribute " + e.Attribute + " " + e.Reason
}

// maxName bounds the names of attributes; CloudEvents asks for no more than 20 characters.
const maxName = 64

// Validate says what keeps e from being a CloudEvent of version 1.0; an error is an *Error.
func (e *Event) Validate() error {
	for _, a := range [...]Attribute{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.Value == "" {
			return &Error{a.Name, "is missing"}
		}
		if err := checkValue(a.Name, a.Value); err != nil {
			return err
		}
	}
	for _, a := range [...]Attribute{{"subject", e.Subject}, {"time", e.Time}, {"datacontenttype", e.DataContentType}, {"dataschema", e.DataSchema}} {
		if err := checkValue(a.Name, a.Value); err != nil {
			return err
		}
	}
	if !plainURI(e.Source) {
		if _, err := url.Parse(e.Source); err != nil {
			return &Error{"source", "is not a URI reference"}
		}
	}
	if e.DataSchema != "" {
		if u, err := url.Parse(e.DataSchema); err != nil || !u.IsAbs() {
			return &Error{"dataschema", "is not an absolute URI"}
		}
	}
	if e.Time != "" {
		if _, err := time.Parse(time.RFC3339Nano, strings.ToUpper(e.Time)); err != nil {
			return &Error{"time", "is not a time as in RFC 3339, such as 2006-01-02T15:04:05Z"}
		}
	}
	if e.DataContentType != "" && !mediaType(e.DataContentType) {
		return &Error{"datacontenttype", "is not a media type"}
	}
	for i, a := range e.Extensions {
		if err := checkName(a.Name); err != nil {
			return err
		}
		if core(a.Name) {
			return &Error{a.Name, "is not an extension"}
		}
		if i > 0 && e.Extensions[i-1].Name >= a.Name {
			return &Error{a.Name, "is given twice, or the extensions are not by name"}
		}
		if err := checkValue(a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

// core is whether a name is one of CloudEvents' own.
func core(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data":
		return true
	}
	return false
}

func checkName(name string) error {
	if name == "" {
		return &Error{"", "has an attribute without a name"}
	}
	if len(name) > maxName {
		return &Error{shown(name), "has a name of more than 64 characters"}
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || 'z' < c) && (c < '0' || '9' < c) {
			return &Error{shown(name), "has a name with other characters than lower-case letters and digits"}
		}
	}
	return nil
}

// shown is a name that somebody sent, fit for a message.
func shown(name string) string {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return EncodeHeader(strings.ToValidUTF8(name, "?"))
}

func checkValue(name, value string) error {
	ascii := true
	for i := range len(value) {
		c := value[i]
		if c < ' ' || c == 0x7f {
			return &Error{name, "has a control character"}
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(value) {
		return &Error{name, errUTF8.Error()}
	}
	for _, r := range value {
		if 0x80 <= r && r <= 0x9f {
			return &Error{name, "has a control character"}
		}
		if 0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe {
			return &Error{name, "has a code point that is no character"}
		}
	}
	return nil
}

// plainURI is true of most sources, which need no parser: a path, or a scheme and a path, of
// characters that a URI may hold everywhere.
func plainURI(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '/':
		default:
			return false
		}
	}
	return true
}

// mediaType is whether s begins as a media type does: token/token, and then a parameter or the end.
func mediaType(s string) bool {
	if i := strings.IndexByte(s, ';'); i >= 0 {
		s = s[:i]
	}
	kind, sub, found := strings.Cut(strings.TrimRight(s, " "), "/")
	return found && token(kind) && token(sub)
}

func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
