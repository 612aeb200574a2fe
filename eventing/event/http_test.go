package event

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestHeaderValuesArePercentEncoded(t *testing.T) {
	for value, want := range map[string]string{
		"":               "",
		"plain/ASCII~!":  "plain/ASCII~!",
		"Euro € 😀":       "Euro%20%E2%82%AC%20%F0%9F%98%80",
		`100% "quoted"`:  "100%25%20%22quoted%22",
		"%20":            "%2520",
		"tab\tand\x7fde": "tab%09and%7Fde",
	} {
		if got := EncodeHeader(value); got != want {
			t.Errorf("EncodeHeader(%q) = %q, want %q", value, got, want)
		}
		if got, err := DecodeHeader(want); got != value || err != nil {
			t.Errorf("DecodeHeader(%q) = %q, %v; want %q", want, got, err, value)
		}
	}
	for value, want := range map[string]string{
		"Euro%20%e2%82%ac": "Euro €",                  // lower case
		"%41%7E":           "A~",                      // not necessary
		"%2541":            "%41",                     // decoded once
		`"a \"b\" \\ c"`:   `a "b" \ c`,               // quoted strings of older senders
		`a "b c"`:          "a b c",                   // wherever they stand
		`"%20"`:            " ",                       // unquoted first, then decoded
		"100%":             "100%",                    // no escape
		"%zz%4":            "%zz%4",                   // no escape
		"a+b":              "a+b",                     // not a form
		"plain é as UTF-8": "plain é as UTF-8",        // not encoded
		"%F0%9F%98%80%C2":  "",                        // cut off
		"%C0%A0":           "",                        // overlong
		"%ED%A0%80":        "",                        // a surrogate
		`"open`:            "", "\xff": "", "%FF": "", // no UTF-8
	} {
		got, err := DecodeHeader(value)
		if want == "" {
			if err == nil {
				t.Errorf("DecodeHeader(%q) = %q, want an error", value, got)
			}
		} else if got != want || err != nil {
			t.Errorf("DecodeHeader(%q) = %q, %v; want %q", value, got, err, want)
		}
	}
}

func full() *Event {
	return &Event{
		ID: "A234-1234", Source: "https://github.com/cloudevents/spec/pull", Type: "com.github.pull_request.opened", Subject: "1 2 3 – é",
		Time: "2018-04-05T17:31:00Z", DataContentType: "application/json", DataSchema: "https://example.com/schema",
		Extensions: []Attribute{{"comexampleextension1", "value"}, {"comexampleothervalue", "5"}, {"z9", `"100%"`}}, Data: []byte(`{"a":[1,2],"b":"<é>"}`),
	}
}

func TestBinaryModeBothWays(t *testing.T) {
	e := full()
	h := http.Header{}
	e.ToHTTP(h)
	if h.Get("ce-subject") != "1%202%203%20%E2%80%93%20%C3%A9" || h.Get("Content-Type") != "application/json" || h.Get("ce-specversion") != "1.0" {
		t.Errorf("headers: %v", h)
	}
	if !Carried(h) {
		t.Error("an event is not seen")
	}
	got, err := FromBinary(h, e.Data, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Error(diff)
	}
	if Carried(http.Header{"Content-Type": {"text/plain"}}) {
		t.Error("a plain answer is taken for an event")
	}
}

func TestStructuredModeBothWays(t *testing.T) {
	for _, change := range []func(*Event){
		func(*Event) {},
		func(e *Event) { e.Data, e.DataContentType = nil, "" },
		func(e *Event) { e.DataContentType, e.Data = "text/plain", []byte("é\n<x>") },
		func(e *Event) { e.DataContentType, e.Data = "application/octet-stream", []byte{0, 255, 1} },
		func(e *Event) { e.DataContentType, e.Data = "text/plain; charset=latin1", []byte{0xe9} },
		func(e *Event) { e.DataContentType, e.Data = "application/json", []byte("{not JSON") },
		func(e *Event) { e.DataContentType, e.Data = "application/json", []byte("null") },
		func(e *Event) { e.DataContentType, e.Data = "application/problem+json", []byte(`"text"`) },
	} {
		e := full()
		change(e)
		body, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		got, err := FromJSON(body, DefaultLimits)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if diff := cmp.Diff(e, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func TestJSONFormat(t *testing.T) {
	const head = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	for body, want := range map[string]*Event{
		head + `,"n":5,"b":true,"s":"","null":null,"subject":null}`: {ID: "1", Source: "/s", Type: "t", Extensions: []Attribute{{"b", "true"}, {"n", "5"}, {"s", ""}}},
		head + `,"data":"text"}`:                                    {ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`"text"`)},
		head + `,"datacontenttype":"text/plain","data":"\u00e9"}`:   {ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain", Data: []byte("é")},
		head + `,"data_base64":"AP8="}`:                             {ID: "1", Source: "/s", Type: "t", Data: []byte{0, 255}},
		head + `,"datacontenttype":"text/xml","data":{"a":1}}`:      {ID: "1", Source: "/s", Type: "t", DataContentType: "text/xml", Data: []byte(`{"a":1}`)},
	} {
		got, err := FromJSON([]byte(body), DefaultLimits)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	for body, reason := range map[string]string{
		``:                                   "the event is not a JSON object",
		`[]`:                                 "the event is not a JSON object",
		head:                                 "the event is not JSON",
		head + `}{}`:                         "the event has something behind its end",
		head + `,"id":"2"}`:                  "attribute id is given twice",
		head + `,"Bad":"x"}`:                 "attribute Bad has a name with other",
		head + `,"a b":"x"}`:                 "attribute a%20b has a name with other",
		head + `,"":"x"}`:                    "without a name",
		head + `,"o":{}}`:                    "attribute o is neither",
		head + `,"n":1.5}`:                   "attribute n is not an integer",
		head + `,"n":3000000000}`:            "attribute n is not an integer",
		head + `,"subject":5}`:               "attribute subject is not a string",
		head + `,"subject":""}`:              "attribute subject is empty",
		head + `,"x":"a\u0007"}`:             "attribute x has a control character",
		head + `,"x":"\ud800"}`:              "attribute x has half a surrogate pair",
		head + `,"x":"` + "\xff" + `"}`:      "the event is not UTF-8",
		head + `,"x":"` + "\ufdd0" + `"}`:    "attribute x has a code point",
		head + `,"time":"now"}`:              "attribute time is not a time",
		head + `,"dataschema":"/relative"}`:  "attribute dataschema is not an absolute URI",
		head + `,"datacontenttype":"plain"}`: "attribute datacontenttype is not a media type",
		head + `,"data":1,"data_base64":""}`: "data and data_base64",
		head + `,"data_base64":"*"}`:         "attribute data_base64 is not base64",
		`{"specversion":"1.0"}`:              "attribute id is missing",
		`{"id":"1"}`:                         "attribute specversion is missing",
		`{"specversion":"1.0","id":"1","source":":","type":"t"}`: "attribute source is not a URI reference",
		head + `,"` + strings.Repeat("n", 65) + `":"x"}`:         "more than 64 characters",
	} {
		_, err := FromJSON([]byte(body), DefaultLimits)
		var wrong *Error
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v; want %q", body, err, reason)
		}
	}
}

func TestBatches(t *testing.T) {
	e, other := full(), &Event{ID: "2", Source: "/s", Type: "t"}
	a, _ := e.MarshalJSON()
	b, _ := other.MarshalJSON()
	h := http.Header{"Content-Type": {"application/cloudevents-batch+json; charset=utf-8"}}
	got, err := FromHTTP(h, []byte(" [ "+string(a)+" , "+string(b)+" ] "), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*Event{e, other}, got); diff != "" {
		t.Error(diff)
	}
	if got, err := FromHTTP(h, []byte("[]"), DefaultLimits); len(got) != 0 || err != nil {
		t.Errorf("an empty batch: %v, %v", got, err)
	}
	for body, reason := range map[string]string{
		`{}`: "is not a JSON array", `[`: "not JSON", `[1]`: "(event 0 of the batch)",
		"[" + string(a) + "," + string(b) + `,{"specversion":"1.0"}]`: "attribute id is missing (event 2 of the batch)",
		"[" + string(a) + "] x": "something behind",
	} {
		if _, err := FromHTTP(h, []byte(body), DefaultLimits); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v; want %q", body, err, reason)
		}
	}
}

func TestLimits(t *testing.T) {
	e := full()
	h := http.Header{}
	e.ToHTTP(h)
	size := e.Size()
	for name, l := range map[string]Limits{"event": {EventBytes: size - 1}, "attributes": {AttributeBytes: size - len(e.Data) - 1}} {
		_, err := FromBinary(h, e.Data, l)
		var large *TooLargeError
		if !errors.As(err, &large) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := FromBinary(h, e.Data, Limits{EventBytes: size, AttributeBytes: size - len(e.Data)}); err != nil {
		t.Error(err)
	}
	var large *TooLargeError
	if _, err := FromBatch([]byte("[{},{}]"), Limits{Batch: 0}); errors.As(err, &large) {
		t.Error("no limit is a limit")
	}
	a, _ := e.MarshalJSON()
	if _, err := FromBatch([]byte("["+string(a)+","+string(a)+"]"), Limits{Batch: 1}); !errors.As(err, &large) {
		t.Errorf("a batch of two: %v", err)
	}
}

func TestContentType(t *testing.T) {
	base := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}}
	for _, test := range []struct {
		header, ce, want string
	}{{"", "", ""}, {"text/plain", "", "text/plain"}, {"", "text/plain", "text/plain"}, {"a/b", "a/b", "a/b"}, {"a/b", "a/c", "error"}} {
		h := base.Clone()
		if test.header != "" {
			h.Set("Content-Type", test.header)
		}
		if test.ce != "" {
			h.Set("Ce-Datacontenttype", test.ce)
		}
		got := "error"
		if e, err := FromBinary(h, nil, DefaultLimits); err == nil {
			got = e.DataContentType
		}
		if got != test.want {
			t.Errorf("Content-Type %q, ce-datacontenttype %q: %q, want %q", test.header, test.ce, got, test.want)
		}
	}
}

// TestAgainstTheSDK compares with the CloudEvents SDK, which reads what is written here, and the
// other way round.
func TestAgainstTheSDK(t *testing.T) {
	e := full()
	e.Subject = "123" // the SDK neither encodes nor decodes percent signs
	e.Extensions[2].Value = "plain"
	s, err := e.ToSDK()
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromSDK(s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, back); diff != "" {
		t.Errorf("to the SDK's type and back: %s", diff)
	}

	// Ours to theirs, in binary and structured mode.
	h := http.Header{}
	e.ToHTTP(h)
	structured, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]struct {
		header http.Header
		body   []byte
	}{"binary": {h, e.Data}, "structured": {http.Header{"Content-Type": {"application/cloudevents+json"}}, structured}} {
		r, _ := http.NewRequest(http.MethodPost, "http://x", bytes.NewReader(m.body))
		r.Header = m.header
		read, err := sdkhttp.NewEventFromHTTPRequest(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := FromSDK(*read)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s, read by the SDK: %s", name, diff)
		}
	}
	// Theirs to ours.
	r, err := sdkhttp.NewHTTPRequestFromEvent(t.Context(), "http://x", s)
	if err != nil {
		t.Fatal(err)
	}
	body := &bytes.Buffer{}
	if _, err := body.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	got, err := FromHTTP(r.Header, body.Bytes(), DefaultLimits)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if diff := cmp.Diff(e, got[0]); diff != "" {
		t.Errorf("written by the SDK: %s", diff)
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "a b", "%41", `"a\"b"`, "é", "%C0%A0", `"`, "100%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if utf8.ValidString(s) {
			encoded := EncodeHeader(s)
			if strings.ContainsFunc(encoded, func(r rune) bool { return r <= ' ' || r == '"' || r > '~' }) {
				t.Errorf("EncodeHeader(%q) = %q", s, encoded)
			}
			if got, err := DecodeHeader(encoded); got != s || err != nil {
				t.Errorf("%q became %q, %v", s, got, err)
			}
		}
		if got, err := DecodeHeader(s); err == nil && !utf8.ValidString(got) {
			t.Errorf("DecodeHeader(%q) = %q, which is no UTF-8", s, got)
		}
	})
}

func FuzzJSON(f *testing.F) {
	whole, _ := full().MarshalJSON()
	for _, s := range []string{string(whole), `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"x","x":1}`, `{"data_base64":"AA=="}`, `[`, `{"a":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := FromJSON(body, DefaultLimits)
		if err != nil {
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("was read, and is not valid: %v", err)
		}
		// In every mode it stays what it is.
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromJSON(text, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(e, again, cmpopts.EquateEmpty(), sameData()); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		h := http.Header{}
		e.ToHTTP(h)
		if ModeOf(h.Get("Content-Type")) != Binary {
			return // an event in an event
		}
		binary, err := FromBinary(h, e.Data, Limits{})
		if err != nil {
			t.Fatalf("%v: %v", h, err)
		}
		if diff := cmp.Diff(e, binary, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// sameData leaves out the space around JSON.
func sameData() cmp.Option {
	return cmp.Transformer("trim", func(e *Event) Event {
		c := *e
		if jsonType(c.DataContentType) {
			c.Data = bytes.TrimSpace(c.Data)
		}
		return c
	})
}

func FuzzBinary(f *testing.F) {
	f.Add("id", "1", "text/plain", []byte("x"))
	f.Add("Bad-Name", "%C0", "", []byte{})
	f.Fuzz(func(t *testing.T, name, value, contentType string, body []byte) {
		h := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}}
		h.Set("Ce-"+name, value)
		h.Set("Content-Type", contentType)
		if ModeOf(contentType) != Binary {
			return
		}
		e, err := FromBinary(h, body, DefaultLimits)
		if err != nil {
			return
		}
		out := http.Header{}
		e.ToHTTP(out)
		again, err := FromBinary(out, e.Data, Limits{})
		if err != nil {
			t.Fatalf("%v: %v", out, err)
		}
		if diff := cmp.Diff(e, again, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkFromBinary(b *testing.B) {
	e := full()
	h := http.Header{}
	e.ToHTTP(h)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromBinary(h, e.Data, DefaultLimits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToHTTP(b *testing.B) {
	e := full()
	b.ReportAllocs()
	for b.Loop() {
		e.ToHTTP(http.Header{})
	}
}

func BenchmarkFromJSON(b *testing.B) {
	body, _ := full().MarshalJSON()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromJSON(body, DefaultLimits); err != nil {
			b.Fatal(err)
		}
	}
}
