package node

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// ports gives each pod a port of its own. A port that another program listens on, or
// that another node on this machine has given out, is never given out.
type ports struct {
	low, high int
	mu        sync.Mutex
	next      int
	used      map[int]io.Closer // what reserves it on this machine
}

func newPorts(low, high int) *ports {
	return &ports{low: low, high: high, next: low, used: map[int]io.Closer{}}
}

// take gives out a free port, going round the range so that a port is not reused
// soon after its pod has gone.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.high - p.low + 1 {
		n := p.next
		if p.next++; p.next > p.high {
			p.next = p.low
		}
		if p.used[n] != nil {
			continue
		}
		reservation, err := reserve(n)
		if err != nil {
			continue
		}
		if free(n) {
			p.used[n] = reservation
			return n, nil
		}
		_ = reservation.Close()
	}
	return 0, fmt.Errorf("no free port between %d and %d: delete pods or give the node another range", p.low, p.high)
}

// keep marks the port of a pod that has one already; false when another pod has it.
func (p *ports) keep(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[n] != nil {
		return false
	}
	reservation, err := reserve(n)
	if err != nil { // the pod listens there: it comes first
		reservation = io.NopCloser(nil)
	}
	p.used[n] = reservation
	return true
}

func (p *ports) release(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reservation := p.used[n]; reservation != nil {
		_ = reservation.Close()
		delete(p.used, n)
	}
}

// reserve keeps other nodes on this machine from giving out the port before its pod
// listens there. The name that is listened on is no file, lives in the network namespace
// that the port is of, and goes with this process, however that ends.
func reserve(n int) (io.Closer, error) {
	return net.Listen("unix", fmt.Sprintf("@ebb-node-port-%d", n))
}

// free tells whether nobody listens on the port on any address.
func free(n int) bool {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(n))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
