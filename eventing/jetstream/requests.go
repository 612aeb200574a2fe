package jetstream

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
)

var (
	errLost         = errors.New("the connection was lost before the answer came")
	errClosed       = errors.New("the engine is closed")
	errNoResponders = errors.New("nobody answers there")
)

// requests asks the server and hears the answers on one subscription. Unlike nats.Conn's own
// requests, those without an answer hear at once that the connection is gone, so that they can
// be asked again elsewhere.
type requests struct {
	nc     *nats.Conn
	prefix string

	mu      sync.Mutex
	waiting map[uint64]*waiter
	last    uint64
}

type waiter struct{ answer chan answer }

type answer struct {
	data []byte
	err  error
}

var waiters = sync.Pool{New: func() any { return &waiter{make(chan answer, 1)} }}

func newRequests(nc *nats.Conn) (*requests, error) {
	r := &requests{nc: nc, prefix: nc.NewInbox() + ".", waiting: map[uint64]*waiter{}}
	sub, err := nc.Subscribe(r.prefix+"*", r.take)
	if err != nil {
		return nil, err
	}
	// Answers are small, and there are no more than requests.
	return r, sub.SetPendingLimits(-1, -1)
}

// do sends m, whose Reply it sets, and waits for the answer. errLost and errNoResponders can be asked again.
func (r *requests) do(ctx context.Context, m *nats.Msg) ([]byte, error) {
	w := waiters.Get().(*waiter)
	r.mu.Lock()
	r.last++
	id := r.last
	r.waiting[id] = w
	r.mu.Unlock()

	buf := make([]byte, 0, 64)
	m.Reply = string(strconv.AppendUint(append(buf, r.prefix...), id, 36))
	if err := r.nc.PublishMsg(m); err != nil {
		r.forget(id, w)
		switch {
		case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrDisconnected):
			return nil, errLost
		case errors.Is(err, nats.ErrConnectionClosed):
			return nil, errClosed
		}
		return nil, err
	}
	select {
	case a := <-w.answer:
		waiters.Put(w)
		return a.data, a.err
	case <-ctx.Done():
		r.forget(id, w)
		return nil, ctx.Err()
	}
}

// forget gives up on an answer. A waiter goes back to the pool only when no answer can come to it any more.
func (r *requests) forget(id uint64, w *waiter) {
	r.mu.Lock()
	_, there := r.waiting[id]
	delete(r.waiting, id)
	r.mu.Unlock()
	if there {
		waiters.Put(w)
	}
}

func (r *requests) take(m *nats.Msg) {
	if len(m.Subject) <= len(r.prefix) {
		return
	}
	id, err := strconv.ParseUint(m.Subject[len(r.prefix):], 36, 64)
	if err != nil {
		return
	}
	r.mu.Lock()
	w := r.waiting[id]
	delete(r.waiting, id)
	r.mu.Unlock()
	if w == nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		w.answer <- answer{err: errNoResponders}
		return
	}
	w.answer <- answer{data: m.Data}
}

// fail answers all that wait.
func (r *requests) fail(err error) {
	r.mu.Lock()
	all := r.waiting
	r.waiting = map[uint64]*waiter{}
	r.mu.Unlock()
	for _, w := range all {
		w.answer <- answer{err: err}
	}
}
