package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// used is the processor time of a process so far, all its threads and those that have ended.
func used(pid int) time.Duration {
	var t unix.Timespec
	// The clock of another process, as clock_getcpuclockid(3) makes it: Linux' own numbers.
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// parts of the platform: the product's own, and what it stands on.
var (
	platformParts = []string{"controller", "activator", "gateway"}
	controlPlane  = []string{"etcd", "kube-apiserver", "kube-controller-manager"}
)

// usedByParts is the processor time of every part so far.
func (b *bench) usedByParts() map[string]time.Duration {
	all := map[string]time.Duration{}
	for part, pid := range b.running.Parts {
		all[part] = used(pid)
	}
	return all
}

// resident is what a process holds in memory, in MB: in all, and with the pages that it
// shares with others counted in shares.
type resident struct{ rss, pss float64 }

func residentOf(pid int) (resident, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return resident{}, err
	}
	return parseRollup(text)
}

// parseRollup reads /proc/PID/smaps_rollup, whose values are in kB.
func parseRollup(text []byte) (r resident, err error) {
	for line := range bytes.Lines(text) {
		name, rest, _ := strings.Cut(string(line), ":")
		var to *float64
		switch name {
		case "Rss":
			to = &r.rss
		case "Pss":
			to = &r.pss
		default:
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			return r, fmt.Errorf("smaps_rollup: %q is not kilobytes", line)
		}
		kb, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return r, fmt.Errorf("smaps_rollup: %q: %w", line, err)
		}
		*to = kb / 1024
	}
	if r.rss == 0 {
		return r, fmt.Errorf("smaps_rollup has no Rss")
	}
	return r, nil
}

// partNames sorted.
func (b *bench) partNames() []string { return slices.Sorted(maps.Keys(b.running.Parts)) }
