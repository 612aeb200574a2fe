package ingress

import (
	"container/list"
	"sync"

	"ebb.dev/ebb/eventing/plan"
)

// Seen is a kind of event that came to a topic.
type Seen struct {
	Address              plan.Address
	Type, Source, Schema string
}

// seenCache remembers the kinds that came last.
type seenCache struct {
	mu    sync.Mutex
	size  int
	known map[Seen]*list.Element
	order *list.List // of Seen, the last one in front
}

func newSeenCache(size int) *seenCache {
	return &seenCache{size: size, known: map[Seen]*list.Element{}, order: list.New()}
}

// add is whether s is new.
func (c *seenCache) add(s Seen) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, there := c.known[s]; there {
		c.order.MoveToFront(at)
		return false
	}
	c.known[s] = c.order.PushFront(s)
	if c.order.Len() > c.size {
		last := c.order.Back()
		delete(c.known, c.order.Remove(last).(Seen))
	}
	return true
}
