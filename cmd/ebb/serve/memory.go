package serve

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// collectAt is by how many percent the heap may grow beyond what is in use: with the
// caches of many services it is memory that an idle platform would hold for nothing.
const collectAt = 60

// spareMemory makes the garbage collector run sooner, and gives memory back to the system when a busy
// time is over, until ctx ends. Nothing of that where $GOGC says how to collect.
func spareMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(collectAt)
	go giveBack(ctx)
}

// lookAtMemory is how often it is asked whether a busy time is over.
const lookAtMemory = 10 * time.Second

// giveBack frees what a busy time has left behind, once it is over: on its own the collector
// would keep most of it until that much has been allocated again, which in an idle process is never.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(lookAtMemory)
	defer tick.Stop()
	before := readHeap()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := readHeap()
		if now.idleSince(before) && now.excess() {
			debug.FreeOSMemory()
			now = readHeap()
		}
		before = now
	}
}

// heap sizes in bytes.
type heap struct {
	allocated uint64 // in all, since the start
	live      uint64 // in use at the last collection
	resident  uint64 // held from the system
}

func readHeap() heap {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	h := heap{allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64()}
	for _, s := range samples[2:] {
		h.resident += s.Value.Uint64()
	}
	return h
}

// idleSince: so little was allocated since that a collection now is not one too many.
func (h heap) idleSince(before heap) bool { return h.allocated-before.allocated < h.live/4 }

// excess: enough is held that nothing lives in.
func (h heap) excess() bool { return h.resident > h.live+h.live/4+8<<20 }
