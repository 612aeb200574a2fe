package serve

import (
	"os"
	"runtime/debug"
)

// collectAt is by how many percent the heap may grow beyond what is in use: with the
// caches of many services it is memory that an idle platform would hold for nothing.
const collectAt = 60

// spareMemory makes the garbage collector run sooner, unless $GOGC says otherwise.
func spareMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}
