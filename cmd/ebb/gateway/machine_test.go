package gateway

import (
	"testing"
	"testing/fstest"
)

func TestHeap(t *testing.T) {
	const machine = "MemTotal:       16777216 kB\nMemFree: 1 kB\n" // 16 GiB
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for title, c := range map[string]struct {
		fs   fstest.MapFS
		want uint64
	}{
		"a machine": {fstest.MapFS{"proc/meminfo": file(machine), "proc/self/cgroup": file("0::/user.slice\n")}, 4 << 30},
		"a container, version 2": {fstest.MapFS{
			"proc/meminfo": file(machine), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("1073741824\n"),
		}, 858993459},
		"a container, seen from outside": {fstest.MapFS{
			"proc/meminfo": file(machine), "proc/self/cgroup": file("0::/pods/one/two\n"),
			"sys/fs/cgroup/pods/one/memory.max": file("1073741824\n"), "sys/fs/cgroup/pods/one/two/memory.max": file("max\n"),
		}, 858993459},
		"a container, version 1": {fstest.MapFS{
			"proc/meminfo": file(machine), "proc/self/cgroup": file("4:cpu:/x\n3:memory,other:/one\n"),
			"sys/fs/cgroup/memory/one/memory.limit_in_bytes": file("1073741824\n"),
		}, 858993459},
		"version 1 without a limit": {fstest.MapFS{
			"proc/meminfo": file(machine), "proc/self/cgroup": file("3:memory:/one\n"),
			"sys/fs/cgroup/memory/one/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 4 << 30},
		"a small container": {fstest.MapFS{
			"proc/meminfo": file(machine), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("67108864\n"),
		}, leastHeap},
		"no Linux": {fstest.MapFS{}, 4 * leastHeap},
	} {
		if got := heap(c.fs); got != c.want {
			t.Errorf("%s: %d, want %d", title, got, c.want)
		}
	}
}

func TestConnections(t *testing.T) {
	for _, c := range []struct {
		heap, files uint64
		want        uint32
	}{
		{4 << 30, 1 << 20, 100_000},
		{256 << 20, 1 << 20, 8192},
		{4 << 30, 1024, 384},
		{4 << 30, 100, leastConnections},
		{4 << 30, 0, 100_000},
	} {
		if got := connections(c.heap, c.files); got != c.want {
			t.Errorf("heap %d, files %d: %d, want %d", c.heap, c.files, got, c.want)
		}
	}
}
