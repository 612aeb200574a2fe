package metrics

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ticks of a clock a second in /proc, on every Linux that Go runs on.
const ticks = 100

// process is what /proc/PID/stat says of one.
type process struct {
	pid, parent int
	own         time.Duration // CPU time of itself
	children    time.Duration // of those of its children that have ended and were waited for
	resident    int64         // bytes
}

// parseStat reads a line of /proc/PID/stat (proc_pid_stat(5)).
func parseStat(line []byte, page int64) (p process, err error) {
	// The second field is the name in brackets and may hold anything.
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return p, errors.New("no name in brackets")
	}
	f := bytes.Fields(line[end+1:])
	if len(f) < 22 {
		return p, errors.New("too few fields")
	}
	number := func(b []byte) int64 {
		n, e := strconv.ParseInt(string(b), 10, 64)
		err = errors.Join(err, e)
		return n
	}
	const first = 3 // the number of f[0]
	field := func(n int) int64 { return number(f[n-first]) }
	cpu := func(n int) time.Duration { return time.Duration(field(n)) * (time.Second / ticks) }
	p.pid, p.parent = int(number(bytes.TrimSpace(line[:open]))), int(field(4))
	p.own, p.children = cpu(14)+cpu(15), cpu(16)+cpu(17)
	p.resident = field(24) * page
	return p, err
}

// tree is the processes of a machine by their parents.
type tree struct {
	all      map[int]process
	children map[int][]int
}

func newTree(all []process) tree {
	t := tree{map[int]process{}, map[int][]int{}}
	for _, p := range all {
		t.all[p.pid] = p
		t.children[p.parent] = append(t.children[p.parent], p.pid)
	}
	return t
}

// readTree reads a folder like /proc. A process that ends meanwhile is left out.
func readTree(proc string) (tree, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return tree{}, err
	}
	var all []process
	page := int64(os.Getpagesize())
	for _, e := range entries {
		if c := e.Name()[0]; c < '0' || c > '9' {
			continue
		}
		line, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
		if err != nil {
			continue
		}
		if p, err := parseStat(line, page); err == nil {
			all = append(all, p)
		}
	}
	return newTree(all), nil
}

// below is what all processes below one use, those included that have ended. Memory that
// several of them share counts for each. ok is false when there is no such process.
func (t tree) below(pid int) (r Reading, ok bool) {
	top, ok := t.all[pid]
	if !ok {
		return r, false
	}
	r.CPU = top.children // not its own: it only looks after the others
	// A number that another process got while they were read may make a ring of them.
	seen := map[int]bool{pid: true}
	next := append([]int(nil), t.children[pid]...)
	for len(next) > 0 {
		p := t.all[next[0]]
		next = next[1:]
		if seen[p.pid] {
			continue
		}
		seen[p.pid] = true
		next = append(next, t.children[p.pid]...)
		r.CPU += p.own + p.children
		r.Memory += p.resident
	}
	return r, true
}
