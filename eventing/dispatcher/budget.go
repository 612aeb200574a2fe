package dispatcher

import "sync/atomic"

// attemptBytes is what a delivery in flight costs beside its event: goroutines, buffers, a connection.
const attemptBytes = 32 << 10

// budget is the memory of all lanes. A lane may take more while it has no more than is still free: so one slow lane
// can have half of it, two a third each, and there is always as much left for one more as the greediest have.
type budget struct {
	total int64
	used  atomic.Int64
}

func (b *budget) add(n int64) { b.used.Add(n) }

// more says whether a lane that has so much may take more.
func (b *budget) more(has int64) bool {
	return has <= b.total-b.used.Load()
}
