package activator

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAnswerWhileTheBodyComes: an answer that begins before the request has ended takes
// nothing of the request away, in HTTP/1.1 either.
func TestAnswerWhileTheBodyComes(t *testing.T) {
	for name, h2c := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			a := serving(t, func(w http.ResponseWriter, req *http.Request) {
				c := http.NewResponseController(w)
				_ = c.EnableFullDuplex()
				w.WriteHeader(http.StatusOK)
				_ = c.Flush()
				_, _ = io.Copy(w, req.Body)
			})
			reader, writer := io.Pipe()
			req := newRequest(t, a, http.MethodPost, "/", reader)
			half := strings.Repeat("x", 50_000)
			req.ContentLength = int64(2 * len(half))
			begun := make(chan struct{})
			go func() {
				_, _ = io.WriteString(writer, half)
				<-begun
				_, _ = io.WriteString(writer, half)
				_ = writer.Close()
			}()
			res, err := client(t, h2c).Do(req)
			close(begun)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || string(got) != half+half {
				t.Errorf("%d bytes of %d came back (%v)", len(got), 2*len(half), err)
			}
		})
	}
}
