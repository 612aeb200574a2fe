package xds

import "sync"

// notices are the callbacks that are due: gathered under the server's lock,
// coalesced, and made by one goroutine at a time that ends when there are none.
type notices struct {
	onState     func(string)
	onSubscribe func(typeURL, name string, on bool)

	mu      sync.Mutex
	running bool
	states  map[string]struct{}
	order   []string
	subs    map[Key]bool
	keys    []Key
}

// state notes that an owner's state may have changed; it calls nothing.
func (n *notices) state(owner string) {
	if n.onState == nil || owner == "" {
		return
	}
	n.add(owner)
}

// gateways notes that a gateway came or went.
func (n *notices) gateways() {
	if n.onState != nil {
		n.add("")
	}
}

func (n *notices) add(owner string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.states[owner]; ok {
		return
	}
	if n.states == nil {
		n.states = map[string]struct{}{}
	}
	n.states[owner] = struct{}{}
	n.order = append(n.order, owner)
}

func (n *notices) subscription(k Key, on bool) {
	if n.onSubscribe == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = map[Key]bool{}
	}
	if _, ok := n.subs[k]; !ok {
		n.keys = append(n.keys, k)
	}
	n.subs[k] = on
}

// run has what was noted called soon. It does not block and is not to be called
// under a lock.
func (n *notices) run() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running && len(n.order)+len(n.keys) > 0 {
		n.running = true
		go n.drain()
	}
}

func (n *notices) drain() {
	for {
		n.mu.Lock()
		keys, subs, owners := n.keys, n.subs, n.order
		n.keys, n.subs, n.order, n.states = nil, nil, nil, nil
		if len(keys)+len(owners) == 0 {
			n.running = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		for _, k := range keys {
			n.onSubscribe(k.Type, k.Name, subs[k])
		}
		for _, o := range owners {
			n.onState(o)
		}
	}
}
