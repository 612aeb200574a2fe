package activator

// podHeap is a binary heap of usable pods: fewest requests in flight first, then
// the one picked longest ago. A pod knows its index, -1 when it is in no heap.
type podHeap []*pod

func (h podHeap) less(i, j int) bool {
	a, b := h[i], h[j]
	if x, y := a.inFlight+a.elsewhere, b.inFlight+b.elsewhere; x != y {
		return x < y
	}
	return a.picked < b.picked
}

func (h podHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *podHeap) push(p *pod) {
	p.index = len(*h)
	*h = append(*h, p)
	h.up(p.index)
}

func (h *podHeap) remove(p *pod) {
	i, last := p.index, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	p.index = -1
	if i < last {
		h.fix((*h)[i])
	}
}

// fix restores the order after a pod's load changed.
func (h podHeap) fix(p *pod) {
	if !h.down(p.index) {
		h.up(p.index)
	}
}

func (h podHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h podHeap) down(i int) (moved bool) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return moved
		}
		if r := child + 1; r < len(h) && h.less(r, child) {
			child = r
		}
		if !h.less(child, i) {
			return moved
		}
		h.swap(i, child)
		i, moved = child, true
	}
}
