package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
)

// Reading is what something has used up to a moment.
type Reading struct {
	CPU    time.Duration // since it began
	Memory int64         // bytes now: the working set
}

// sample is a reading of everything at one moment.
type sample struct {
	at   time.Time
	node Reading
	runs map[string]Reading // by Container.Run
}

// read reads what the pods' containers and the machine have used. A container that cannot
// be read, or has just ended, is left out.
func read(pods []Pod) (sample, error) {
	s := sample{at: time.Now(), runs: map[string]Reading{}}
	var err error
	if s.node, err = readMachine("/proc"); err != nil {
		return s, fmt.Errorf("read what the machine uses: %w", err)
	}
	var processes *tree // read once, and only if one has no control groups
	for _, p := range pods {
		for _, c := range p.Containers {
			r, err := readGroups(c.Groups)
			if err != nil {
				if processes == nil {
					t, err := readTree("/proc")
					if err != nil {
						return s, fmt.Errorf("read the processes: %w", err)
					}
					processes = &t
				}
				var ok bool
				if r, ok = processes.below(c.Shim); !ok {
					continue
				}
			}
			s.runs[c.Run] = r
		}
	}
	return s, nil
}

// readGroups reads control groups, given by controller.
func readGroups(paths map[string]string) (Reading, error) {
	if len(paths) == 0 {
		return Reading{}, errors.New("it has no control groups")
	}
	m, err := manager.NewWithPaths(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
	if err != nil {
		return Reading{}, err
	}
	stats, err := m.GetStats()
	if err != nil {
		return Reading{}, err
	}
	inactive, ok := stats.MemoryStats.Stats["total_inactive_file"] // version 1
	if !ok {
		inactive = stats.MemoryStats.Stats["inactive_file"]
	}
	cpu, memory := stats.CpuStats.CpuUsage.TotalUsage, stats.MemoryStats.Usage.Usage
	if cpu == 0 || memory == 0 { // not counted here
		return Reading{}, errors.New("its control groups do not count")
	}
	return Reading{CPU: time.Duration(cpu), Memory: int64(memory - min(inactive, memory))}, nil //nolint:gosec // far below 2^63
}

// readMachine reads the whole machine from a folder like /proc.
func readMachine(proc string) (r Reading, err error) {
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return r, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 5 || f[0] != "cpu" {
		return r, fmt.Errorf("%s: unexpected format", filepath.Join(proc, "stat"))
	}
	for i, text := range f[1:] {
		// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already (proc_stat(5)).
		if i == 3 || i == 4 || i > 7 {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return r, fmt.Errorf("%s: %w", filepath.Join(proc, "stat"), err)
		}
		r.CPU += time.Duration(n) * (time.Second / ticks)
	}
	memory, err := os.ReadFile(filepath.Join(proc, "meminfo"))
	if err != nil {
		return r, err
	}
	for l := range strings.Lines(string(memory)) {
		var kb int64
		if n, _ := fmt.Sscanf(l, "MemTotal: %d kB", &kb); n == 1 {
			r.Memory += kb << 10
		} else if n, _ := fmt.Sscanf(l, "MemAvailable: %d kB", &kb); n == 1 {
			r.Memory -= kb << 10
		}
	}
	return r, nil
}
