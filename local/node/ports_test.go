package node

import "testing"

// Two nodes on one machine never give out the same port, though nobody listens there yet.
func TestNodesShareThePortsOfAMachine(t *testing.T) {
	const low, high = 19_100, 19_139
	one, two := newPorts(low, high), newPorts(low, high)
	var given []int
	for range 10 {
		for _, p := range []*ports{one, two} {
			n, err := p.take()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.release(n) })
			given = append(given, n)
		}
	}
	seen := map[int]bool{}
	for _, n := range given {
		if seen[n] {
			t.Errorf("port %d was given out twice: %v", n, given)
		}
		seen[n] = true
	}
	one.release(given[0])
	if !two.keep(given[0]) {
		t.Errorf("port %d cannot be taken over after it was released", given[0])
	}
	two.release(given[0])
}
