package delivery

import (
	"encoding/base64"
	"net/url"
	"strconv"

	"ebb.dev/ebb/eventing/event"
)

// Extensions of a dead letter, as the public implementations write them.
const (
	ErrorDest = "knativeerrordest"
	ErrorCode = "knativeerrorcode"
	ErrorData = "knativeerrordata"
)

// MaxErrorBody is how much of an answer's body a dead letter carries, in bytes: 1024 in base64.
const MaxErrorBody = 768

// Failure is why an event could not be delivered.
type Failure struct {
	Destination string // URL that it was sent to last
	Code        int    // status of HTTP; 0: there was no answer
	Body        []byte // of the answer, or a text
	Err         error  // why there was no answer
}

// Mark makes the dead letter: the event with what went wrong.
func (f Failure) Mark(e *event.Event) *event.Event {
	code, body := f.Code, f.Body
	if code == 0 {
		// Public implementations give this code and text when there was no answer.
		code = 500
		if f.Err != nil {
			body = []byte("dispatch error: " + f.Err.Error())
		}
	}
	if len(body) > MaxErrorBody {
		body = body[:MaxErrorBody]
	}
	dead := e.Clone()
	dead.SetExtension(ErrorDest, Redact(f.Destination))
	dead.SetExtension(ErrorCode, strconv.Itoa(code))
	dead.RemoveExtension(ErrorData)
	if len(body) > 0 {
		dead.SetExtension(ErrorData, base64.StdEncoding.EncodeToString(body))
	}
	return dead
}

// Read is the failure that a dead letter was marked with; false for an event that was not.
func Read(e *event.Event) (Failure, bool) {
	destination, marked := e.Get(ErrorDest)
	if !marked {
		return Failure{}, false
	}
	f := Failure{Destination: destination}
	code, _ := e.Get(ErrorCode)
	f.Code, _ = strconv.Atoi(code)
	data, _ := e.Get(ErrorData)
	body, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		body = []byte(data) // of somebody else, who writes it as it is
	}
	f.Body = body
	return f, true
}

// Unmark is a dead letter as it was before it was one.
func Unmark(e *event.Event) *event.Event {
	alive := e.Clone()
	for _, name := range []string{ErrorDest, ErrorCode, ErrorData} {
		alive.RemoveExtension(name)
	}
	return alive
}

// Redact is a URL without a password.
func Redact(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	return u.Redacted()
}
