package event

import (
	"errors"
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// EncodeHeader is an attribute's value as the value of a header: a space, a double quote, a
// percent sign and everything outside of printable ASCII become %XX (CloudEvents HTTP
// binding, 3.1.3.2). A value without any of them is returned as it is.
func EncodeHeader(value string) string {
	special := 0
	for i := range len(value) {
		if escaped(value[i]) {
			special++
		}
	}
	if special == 0 {
		return value
	}
	out := make([]byte, 0, len(value)+2*special)
	for i := range len(value) {
		if c := value[i]; escaped(c) {
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func escaped(c byte) bool { return c <= ' ' || c == '"' || c == '%' || c > '~' }

var (
	errQuoted = errors.New("has a double quote that is not closed")
	errUTF8   = errors.New("is not UTF-8")
)

// DecodeHeader reads what EncodeHeader wrote. Double-quoted strings of older senders are
// unescaped first; percent signs are decoded once, and one that begins no escape stands for
// itself. What is not UTF-8 after that is refused.
func DecodeHeader(value string) (string, error) {
	if strings.IndexByte(value, '"') >= 0 {
		var err error
		if value, err = unquote(value); err != nil {
			return "", err
		}
	}
	if strings.IndexByte(value, '%') >= 0 {
		value = unescape(value)
	}
	if !utf8.ValidString(value) {
		return "", errUTF8
	}
	return value, nil
}

// unquote resolves double-quoted strings wherever they stand (RFC 7230, 3.2.6).
func unquote(value string) (string, error) {
	out := make([]byte, 0, len(value))
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(value):
			i++
			out = append(out, value[i])
		default:
			out = append(out, c)
		}
	}
	if quoted {
		return "", errQuoted
	}
	return string(out), nil
}

func unescape(value string) string {
	out := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) {
			high, low := hex(value[i+1]), hex(value[i+2])
			if high < 16 && low < 16 {
				out = append(out, high<<4|low)
				i += 2
				continue
			}
		}
		out = append(out, value[i])
	}
	return string(out)
}

// hex is the value of a hexadecimal digit, 16 of anything else.
func hex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
