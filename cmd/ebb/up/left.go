package up

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cleanLeft ends processes that an earlier platform on this folder left, where the
// kernel did not: those whose command line names the folder or, as the control plane's
// do, a file in it. The caller holds the folder's lock, so none of them has an owner.
func (p *Platform) cleanLeft() (int, error) {
	left := leftOf(p.dir.Path(""), p.programs)
	for _, pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, pid := range left {
		for syscall.Kill(pid, 0) == nil && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return len(left), nil
}

func leftOf(root string, found programs) []int {
	root = strings.TrimSuffix(root, "/") + "/"
	var left []int
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, entry := range entries {
		pid, err := strconv.Atoi(strings.Split(entry, "/")[2])
		if err != nil || pid == os.Getpid() {
			continue
		}
		text, err := os.ReadFile(entry)
		if err != nil || !strings.Contains(string(text), "="+root) {
			continue
		}
		program, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
		if err != nil {
			continue
		}
		program = strings.TrimSuffix(program, " (deleted)")
		if program == found.kube || program == found.node || program == found.ebb {
			left = append(left, pid)
		}
	}
	return left
}
