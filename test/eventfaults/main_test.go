package eventfaults

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	events = flag.Int("events", 0, "events that are acknowledged in all, at least, such as 12000; 0: none, the test is left out")
	rate   = flag.Int("rate", 600, "events/s; 0: as fast as they are taken")
	random = flag.Int("random", 3, "faults drawn by chance, after each one once")
	only   = flag.String("only", "", "only faults with this in their name")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the draw")
)

// asSubscriber has this program be the subscriber that is killed: ADDRESS, and the file that it writes to.
const asSubscriber, asFile = "EVENTFAULTS_LISTEN", "EVENTFAULTS_FILE"

func TestMain(m *testing.M) {
	if address := os.Getenv(asSubscriber); address != "" {
		fmt.Fprintln(os.Stderr, subscribe(address, os.Getenv(asFile)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
