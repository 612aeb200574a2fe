package faults

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Up and down again and again by the Service's annotations, under POSTs, which nobody tries again once they are on their way, and
// websockets. (A thousand times: autoscaler TestScaleDownsCutNothing.)
func TestScaleDownCycles(t *testing.T) {
	w := newWorld(t)
	w.Deploy("web", quick("min-scale", "4", "max-scale", "4"))
	w.pods("web", 4, 4)
	posts, stopped := newTraffic(t, "POST web")
	for i := range 8 {
		posts.wg.Go(func() {
			for stopped.Err() == nil {
				began := time.Now()
				body, err := w.post("web", fmt.Sprintf("/sleep?ms=%d", 5+i*10))
				posts.note(began, body, err)
			}
		})
	}
	annotate := func(n int) {
		w.mergePatch(t, w.Service("web", nil), fmt.Sprintf(
			`{"metadata":{"annotations":{"autoscaling.knative.dev/min-scale":"%d","autoscaling.knative.dev/max-scale":"%d"}}}`, n, n))
	}
	for range 6 {
		// Each pod has a websocket or two, which end while it waits to go.
		holds := w.websockets(t, "web", 2*time.Second, 6)
		w.await(t, posts, 50)
		annotate(1)
		w.pods("web", 1, 1)
		finished(t, holds)
		annotate(4)
		w.pods("web", 4, 4)
	}
	posts.stopClean(t)
}

// post is get with POST and a body.
func (w *world) post(service, path string) (string, error) {
	resp, err := w.http.Post(w.URL(service, path), "text/plain", strings.NewReader("x"))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return string(body), err
}
