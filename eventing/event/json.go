package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FromJSON reads one event in the JSON event format.
func FromJSON(body []byte, l Limits) (*Event, error) {
	if !utf8.Valid(body) {
		return nil, &Error{"", errUTF8.Error()}
	}
	return fromJSON(body, l)
}

// FromBatch reads a JSON array of events; it may be empty. One event that is not one makes the
// whole batch refused, and the reason says which it is, counted from 0.
func FromBatch(body []byte, l Limits) ([]*Event, error) {
	if !utf8.Valid(body) {
		return nil, &Error{"", errUTF8.Error()}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return nil, &Error{"", "batch is not a JSON array"}
	}
	events := []*Event{}
	for d.More() {
		if l.Batch > 0 && len(events) == l.Batch {
			return nil, &TooLargeError{fmt.Sprintf("the batch has more than %d events", l.Batch)}
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, &Error{"", "batch is not JSON: " + err.Error()}
		}
		e, err := fromJSON(raw, l)
		if err != nil {
			return nil, inBatch(err, len(events))
		}
		events = append(events, e)
	}
	if _, err := d.Token(); err != nil {
		return nil, &Error{"", "batch is not JSON: " + err.Error()}
	}
	if !atEnd(d) {
		return nil, &Error{"", "batch has something behind its end"}
	}
	return events, nil
}

// inBatch says which event of a batch an error is about.
func inBatch(err error, n int) error {
	where := fmt.Sprintf(" (event %d of the batch)", n)
	var wrong *Error
	var large *TooLargeError
	switch {
	case errors.As(err, &wrong):
		return &Error{wrong.Attribute, wrong.Reason + where}
	case errors.As(err, &large):
		return &TooLargeError{large.Reason + where}
	}
	return err
}

func atEnd(d *json.Decoder) bool {
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

func fromJSON(body []byte, l Limits) (*Event, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, &Error{"", "is not a JSON object"}
	}
	e := &Event{}
	var data, data64 json.RawMessage
	version := ""
	seen := make(map[string]struct{}, 16)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		name := token.(string) // a key: the decoder allows nothing else here
		if _, twice := seen[name]; twice {
			return nil, &Error{shown(name), "is given twice"}
		}
		seen[name] = struct{}{}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, notJSON(err)
		}
		if string(raw) == "null" {
			continue
		}
		switch name {
		case "data":
			data = raw
			continue
		case "data_base64":
			data64 = raw
			continue
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		own := core(name)
		value, err := fromValue(name, raw, own)
		if err != nil {
			return nil, err
		}
		if own && value == "" {
			return nil, &Error{name, "is empty"}
		}
		switch name {
		case "specversion":
			version = value
		case "id":
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "subject":
			e.Subject = value
		case "time":
			e.Time = value
		case "datacontenttype":
			e.DataContentType = value
		case "dataschema":
			e.DataSchema = value
		default:
			e.Extensions = append(e.Extensions, Attribute{name, value})
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(err)
	}
	if !atEnd(d) {
		return nil, &Error{"", "has something behind its end"}
	}
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	if err := e.setData(data, data64); err != nil {
		return nil, err
	}
	slices.SortFunc(e.Extensions, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	return e, e.check(l)
}

func notJSON(err error) error { return &Error{"", "is not JSON: " + err.Error()} }

// fromValue is the canonical form of an attribute. CloudEvents' own are strings; an extension
// may be a boolean or an integer of 32 bits as well.
func fromValue(name string, raw json.RawMessage, mustString bool) (string, error) {
	switch c := raw[0]; {
	case c == '"':
		return fromString(name, raw)
	case mustString:
		return "", &Error{name, "is not a string"}
	case c == 't' || c == 'f':
		return string(raw), nil
	case c == '-' || '0' <= c && c <= '9':
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || n < math.MinInt32 || n > math.MaxInt32 {
			return "", &Error{name, "is not an integer of 32 bits"}
		}
		return strconv.FormatInt(n, 10), nil
	}
	return "", &Error{name, "is neither a string, a boolean nor an integer"}
}

func fromString(name string, raw json.RawMessage) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", &Error{name, "is not a JSON string"}
	}
	// The decoder puts U+FFFD in the place of half a surrogate pair.
	if strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
		return "", &Error{name, "has half a surrogate pair"}
	}
	return s, nil
}

// setData reads data or data_base64 as the JSON format says: data is JSON where the content type
// is JSON or not given, and otherwise text where it is a string.
func (e *Event) setData(data, data64 json.RawMessage) error {
	switch {
	case data != nil && data64 != nil:
		return &Error{"", "has data and data_base64"}
	case data64 != nil:
		if data64[0] != '"' {
			return &Error{"data_base64", "is not a string"}
		}
		text, err := fromString("data_base64", data64)
		if err != nil {
			return err
		}
		if e.Data, err = base64.StdEncoding.DecodeString(text); err != nil {
			return &Error{"data_base64", "is not base64"}
		}
	case data != nil:
		if e.DataContentType == "" {
			e.DataContentType = "application/json"
		}
		if data[0] != '"' || jsonType(e.DataContentType) {
			e.Data = data
			return nil
		}
		text, err := fromString("data", data)
		if err != nil {
			return err
		}
		e.Data = []byte(text)
	}
	return nil
}

func jsonType(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")
}

// MarshalJSON writes e in the JSON event format: attributes by the order of the
// specification, extensions by name as strings, data as JSON or text where that is what it is.
func (e *Event) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"specversion":"1.0"`)
	put := func(name, value string) error {
		b.WriteString(`,"` + name + `":`)
		return putString(&b, value)
	}
	for _, a := range [...]Attribute{
		{"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject},
		{"time", e.Time}, {"datacontenttype", e.DataContentType}, {"dataschema", e.DataSchema},
	} {
		if a.Value == "" {
			continue
		}
		if err := put(a.Name, a.Value); err != nil {
			return nil, err
		}
	}
	for _, a := range e.Extensions {
		if err := put(a.Name, a.Value); err != nil {
			return nil, err
		}
	}
	switch {
	case len(e.Data) == 0:
	case e.DataContentType != "" && jsonType(e.DataContentType) && utf8.Valid(e.Data) && json.Valid(e.Data) && string(bytes.TrimSpace(e.Data)) != "null":
		b.WriteString(`,"data":`)
		b.Write(bytes.TrimSpace(e.Data))
	case !jsonType(e.DataContentType) && strings.HasPrefix(strings.ToLower(e.DataContentType), "text/") && utf8.Valid(e.Data):
		if err := put("data", string(e.Data)); err != nil {
			return nil, err
		}
	default:
		if err := put("data_base64", base64.StdEncoding.EncodeToString(e.Data)); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func putString(b *bytes.Buffer, s string) error {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the new line
	return nil
}
