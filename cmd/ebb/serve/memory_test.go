package serve

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestWhenMemoryIsGivenBack(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		name         string
		before, now  heap
		idle, excess bool
	}{
		{"idle and lean", heap{allocated: 500 * mb}, heap{allocated: 501 * mb, live: 40 * mb, resident: 55 * mb}, true, false},
		{"idle after a busy time", heap{allocated: 500 * mb}, heap{allocated: 505 * mb, live: 40 * mb, resident: 90 * mb}, true, true},
		{"busy", heap{allocated: 500 * mb}, heap{allocated: 700 * mb, live: 40 * mb, resident: 90 * mb}, false, true},
		{"small, with what a small heap needs", heap{allocated: 10 * mb}, heap{allocated: 10 * mb, live: 4 * mb, resident: 12 * mb}, true, false},
	} {
		if idle := tc.now.idleSince(tc.before); idle != tc.idle {
			t.Errorf("%s: idle %v", tc.name, idle)
		}
		if excess := tc.now.excess(); excess != tc.excess {
			t.Errorf("%s: excess %v", tc.name, excess)
		}
	}
}

// TestReadHeap: what is read is what the runtime has, and freeing makes it less.
func TestReadHeap(t *testing.T) {
	before := readHeap()
	garbage := make([][]byte, 64)
	for i := range garbage {
		garbage[i] = make([]byte, 1<<20)
	}
	full := readHeap()
	if full.allocated < before.allocated+64<<20 || full.resident < 64<<20 {
		t.Errorf("with 64 MB allocated: %+v, before %+v", full, before)
	}
	runtime.KeepAlive(garbage) // and no longer
	debug.FreeOSMemory()
	if after := readHeap(); after.resident+32<<20 > full.resident || after.live == 0 {
		t.Errorf("after freeing it: %+v, with it %+v", after, full)
	}
}
