package node

import (
	"fmt"
	"net"
	"strconv"
	"sync"
)

// ports gives each pod a port of its own. A port that another program listens on
// is never given out.
type ports struct {
	low, high int
	mu        sync.Mutex
	next      int
	used      map[int]bool
}

func newPorts(low, high int) *ports {
	return &ports{low: low, high: high, next: low, used: map[int]bool{}}
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
		if !p.used[n] && free(n) {
			p.used[n] = true
			return n, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d: delete pods or give the node another range", p.low, p.high)
}

// keep marks the port of a pod that has one already; false when another pod has it.
func (p *ports) keep(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[n] {
		return false
	}
	p.used[n] = true
	return true
}

func (p *ports) release(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, n)
}

// free tells whether nobody listens on the port on any address.
func free(n int) bool {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(n))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
