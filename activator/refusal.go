package activator

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// refusal is an answer the activator gives itself: why a request did not get a pod's.
type refusal struct {
	status     int    // HTTP
	reason     string // one of a few words, for metrics
	text       string // for the person who asked
	retryAfter int    // seconds; 0 means no header
}

func (r *refusal) Error() string { return r.text }

// Reasons, the values of the metric's label.
const (
	reasonMalformed   = "malformed"
	reasonUnknown     = "unknown"
	reasonTooMany     = "too_many_revisions"
	reasonFull        = "queue_full"
	reasonTimeout     = "timeout"
	reasonFailed      = "revision_failed"
	reasonGone        = "revision_deleted"
	reasonUnreachable = "pod_reset"
	reasonLeft        = "client_left"
	reasonHandedBack  = "handed_back"
)

var reasons = []string{
	reasonMalformed, reasonUnknown, reasonTooMany, reasonFull, reasonTimeout,
	reasonFailed, reasonGone, reasonUnreachable, reasonLeft, reasonHandedBack,
}

// write answers the request with the refusal: as text, or for gRPC as a status
// that carries the text (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func (r *refusal) write(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(r.retryAfter))
	}
	if req.ProtoMajor == 2 && strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc") {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(r.grpcCode()))
		h.Set("Grpc-Message", grpcMessage(r.text))
		w.WriteHeader(http.StatusOK)
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(r.text)+1))
	w.WriteHeader(r.status)
	_, _ = w.Write([]byte(r.text + "\n"))
}

func (r *refusal) grpcCode() int {
	switch r.status {
	case http.StatusGatewayTimeout:
		return 4 // DEADLINE_EXCEEDED
	case http.StatusNotFound, http.StatusBadRequest:
		return 12 // UNIMPLEMENTED
	default:
		return 14 // UNAVAILABLE
	}
}

// grpcMessage percent-encodes what a header cannot carry.
func grpcMessage(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
