package activator

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ebb.dev/ebb/proxy/link"
)

// drainer answers preStop hooks: it asks the leader whether nothing is on its way to
// the revision's terminating pods any more. A hook that is answered with an error
// lets Kubernetes end the pod at once, so it never is: without a leader it waits.
type drainer struct {
	client  link.DrainClient
	wait    time.Duration // without a leader
	slots   chan struct{} // bounds the questions to the leader
	metrics *metrics
}

const (
	maxDrains       = 1024 // questions to the leader at once; the others wait as without a leader
	drainRetryPause = 200 * time.Millisecond
)

func newDrainer(conn grpc.ClientConnInterface, wait time.Duration, m *metrics) *drainer {
	return &drainer{client: link.NewDrainClient(conn), wait: wait, slots: make(chan struct{}, maxDrains), metrics: m}
}

// handler serves GET /drain/<namespace>/<revision>.
func (d *drainer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /drain/{namespace}/{revision}", func(w http.ResponseWriter, req *http.Request) {
		d.metrics.drains.Add(1)
		defer d.metrics.drains.Add(-1)
		d.await(req.Context(), req.PathValue("namespace"), req.PathValue("revision"))
		w.WriteHeader(http.StatusOK)
	})
	return mux
}

// await returns when the leader says that the revision's terminating pods are
// drained, or when no leader answered for the fixed wait, or when ctx ends.
func (d *drainer) await(ctx context.Context, namespace, revision string) {
	alone := time.NewTimer(d.wait)
	defer alone.Stop()
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	default:
		select {
		case <-alone.C:
		case <-ctx.Done():
		}
		return
	}
	for {
		// The timer runs while no leader answers: from the start, or from the moment a
		// question that was being answered broke off.
		begin := time.Now()
		_, err := d.client.Await(ctx, &link.AwaitRequest{Namespace: namespace, Revision: revision})
		if err == nil || ctx.Err() != nil {
			return
		}
		if time.Since(begin) > d.wait && status.Code(err) == codes.Unavailable {
			alone.Reset(d.wait)
		}
		pause := time.NewTimer(drainRetryPause)
		select {
		case <-alone.C:
			pause.Stop()
			return
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}
