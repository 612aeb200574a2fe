package gateway

import (
	"bufio"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"ebb.dev/ebb/proxy/envoy"
)

const (
	leastHeap         = 128 << 20
	bytesAConnection  = 32 << 10 // an idle one with TLS was measured to take less
	mostConnections   = 100_000
	leastConnections  = 100
	filesForTheRest   = 256
	partOfTheLimit    = 0.8  // of a container's memory: the rest is code, sockets and stacks
	partOfTheMachine  = 0.25 // where there is no limit, other programs run there too
	unlimitedInCgroup = 1 << 60
)

// Limits completes what a user gave with what suits the machine, or the container that
// this process runs in. It also raises the limit of open files as far as it may, for Envoy too.
func Limits(given envoy.OverloadLimits) envoy.OverloadLimits {
	files := raiseFiles()
	if given.HeapBytes == 0 {
		given.HeapBytes = heap(os.DirFS("/"))
	}
	if given.Connections == 0 {
		given.Connections = connections(given.HeapBytes, files)
	}
	return given
}

// heap is the part of the memory that a gateway may use, in bytes.
func heap(root fs.FS) uint64 {
	machine, limit := memTotal(root), cgroupLimit(root)
	if machine == 0 && limit == 0 {
		return 4 * leastHeap
	}
	bytes := uint64(float64(machine) * partOfTheMachine)
	if limit > 0 && (machine == 0 || limit < machine) {
		bytes = uint64(float64(limit) * partOfTheLimit)
	}
	return max(bytes, leastHeap)
}

// connections that fit into the heap, and whose requests have an open file each for the pod.
func connections(heap, files uint64) uint32 {
	n := min(heap/bytesAConnection, mostConnections)
	if files > 0 {
		n = min(n, (max(files, filesForTheRest)-filesForTheRest)/2)
	}
	return uint32(max(n, leastConnections))
}

// raiseFiles returns how many files may be open, after raising the soft limit to the hard one.
func raiseFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	l.Cur = l.Max
	// Set here, it is passed on to children; the runtime gives them what it found otherwise.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	return l.Cur
}

func memTotal(root fs.FS) uint64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kb, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// cgroupLimit is the least memory limit of this process's control group and those above
// it, as far as they can be seen from here; 0 for none.
func cgroupLimit(root fs.FS) uint64 {
	file, err := root.Open("proc/self/cgroup")
	if err != nil {
		return 0
	}
	defer file.Close()
	least := uint64(0)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		id, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		var base, name string
		switch {
		case id == "0" && controllers == "":
			base, name = "sys/fs/cgroup", "memory.max"
		case strings.Contains(","+controllers+",", ",memory,"):
			base, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for at := path.Join("/", group); ; at = path.Dir(at) {
			text, err := fs.ReadFile(root, path.Join(base, at, name))
			if err == nil {
				limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
				if err == nil && limit > 0 && limit < unlimitedInCgroup && (least == 0 || limit < least) {
					least = limit
				}
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}
