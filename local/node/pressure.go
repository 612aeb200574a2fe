package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ebb.dev/ebb/local/shim"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Thresholds of the node's conditions and of the collection of images, a kubelet's defaults.
const (
	leastMemory  = 100 << 20 // bytes available
	leastDisk    = 10        // percent of the disk of the data folder
	leastFiles   = 5         // percent of its inodes
	leastPIDs    = 5         // percent of what the machine can have
	imagesFrom   = 85        // percent used: images that nothing uses go
	imagesUntil  = 80        // down to this
	imageRest    = 2 * time.Minute
	collectEvery = time.Minute
)

// readings are what the conditions are made of.
type readings struct {
	memory                int64 // bytes available
	disk, files           uint64
	diskTotal, filesTotal uint64 // bytes and inodes; 0 when a file system does not count them
	processes, mostPIDs   int64
}

// read asks the machine. What cannot be read is zero, and no pressure.
func read(data string) (r readings) {
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for l := range strings.SplitSeq(string(b), "\n") {
			var kb int64
			if n, _ := fmt.Sscanf(l, "MemAvailable: %d kB", &kb); n == 1 {
				r.memory = kb << 10
			}
		}
	}
	var s unix.Statfs_t
	if unix.Statfs(data, &s) == nil {
		size := uint64(s.Bsize) //nolint:gosec // positive
		r.disk, r.diskTotal, r.files, r.filesTotal = s.Bavail*size, s.Blocks*size, s.Ffree, s.Files
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		var f float64
		var running int64
		_, _ = fmt.Sscanf(string(b), "%f %f %f %d/%d", &f, &f, &f, &running, &r.processes)
	}
	if b, err := os.ReadFile("/proc/sys/kernel/pid_max"); err == nil {
		_, _ = fmt.Sscan(string(b), &r.mostPIDs)
	}
	return r
}

// conditions are the node's, without their times.
func (r readings) conditions() []v1.NodeCondition {
	make := func(kind v1.NodeConditionType, pressure bool, good, bad, why string) v1.NodeCondition {
		if pressure {
			return v1.NodeCondition{Type: kind, Status: v1.ConditionTrue, Reason: bad, Message: why}
		}
		return v1.NodeCondition{Type: kind, Status: v1.ConditionFalse, Reason: good, Message: why}
	}
	disk := r.diskTotal > 0 && r.disk*100 < r.diskTotal*leastDisk || r.filesTotal > 0 && r.files*100 < r.filesTotal*leastFiles
	return []v1.NodeCondition{
		make(v1.NodeMemoryPressure, r.memory > 0 && r.memory < leastMemory, "NodeHasSufficientMemory", "NodeHasInsufficientMemory", fmt.Sprintf("pressure below %d MiB of available memory", leastMemory>>20)),
		make(v1.NodeDiskPressure, disk, "NodeHasNoDiskPressure", "NodeHasDiskPressure", fmt.Sprintf("pressure below %d%% free space or %d%% free inodes of the data folder's disk", leastDisk, leastFiles)),
		make(v1.NodePIDPressure, r.mostPIDs > 0 && (r.mostPIDs-r.processes)*100 < r.mostPIDs*leastPIDs, "NodeHasSufficientPID", "NodeHasInsufficientPID", fmt.Sprintf("pressure below %d%% free process numbers", leastPIDs)),
	}
}

// excess is how many bytes of images are to go.
func (r readings) excess() uint64 {
	used := r.diskTotal - r.disk
	if r.diskTotal == 0 || used*100 < r.diskTotal*imagesFrom {
		return 0
	}
	return used - r.diskTotal/100*imagesUntil
}

// collect removes images that nothing uses while the disk is too full.
func (n *Node) collect(ctx context.Context) error {
	for n.later(collectEvery, nil) {
		n.collectOnce(ctx, read(n.cfg.Data).excess())
	}
	return nil
}

func (n *Node) collectOnce(ctx context.Context, excess uint64) {
	if excess == 0 {
		return
	}
	freed, removed, err := n.images.Collect(ctx, excess, imageRest, n.usedImages)
	if err != nil {
		n.log.Warn("remove unused images", "error", err)
	}
	n.log.Info("the disk is full: unused images were removed", "count", removed, "bytes", freed, "wanted", excess)
}

// usedImages are the root folders of images that containers have, as their own or as a
// volume, running or not.
func (n *Node) usedImages() map[string]bool {
	used := map[string]bool{}
	dirs, _ := filepath.Glob(filepath.Join(n.cfg.Data, "pods", "*"))
	for _, dir := range dirs {
		for _, r := range runs(dir) {
			if s, err := shim.ReadSpec(r); err == nil {
				used[s.Rootfs] = true
				for _, m := range s.Mounts {
					if root, ok := n.images.RootOf(m.Source); ok {
						used[root] = true
					}
				}
			}
		}
	}
	return used
}
