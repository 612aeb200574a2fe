package metrics

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
)

func stat(pid, parent, cpu, children, pages int) string {
	return fmt.Sprintf("%d (a (strange) name) S %d 1 1 0 -1 4194560 1 0 0 0 %d 0 %d 0 20 0 1 0 100 1000000 %d 18446744073709551615 1 1 0", pid, parent, cpu, children, pages)
}

func TestTree(t *testing.T) {
	var all []process
	for _, line := range []string{
		stat(1, 0, 9999, 9999, 9999),
		stat(10, 1, 500, 100, 50), // a shim: what its ended children used counts, what it used itself does not
		stat(11, 10, 200, 25, 3),
		stat(12, 11, 50, 0, 2),
		stat(13, 10, 25, 0, 1), // an orphan that the shim took
		stat(20, 1, 700, 0, 70),
	} {
		p, err := parseStat([]byte(line), 4096)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	tr := newTree(all)
	if r, ok := tr.below(10); !ok || r != (Reading{CPU: 4 * time.Second, Memory: 6 * 4096}) {
		t.Errorf("%+v, %v", r, ok)
	}
	if r, ok := tr.below(20); !ok || r != (Reading{}) {
		t.Errorf("without children: %+v, %v", r, ok)
	}
	ring := newTree([]process{{pid: 2, parent: 3, own: 1}, {pid: 3, parent: 2, own: 1}})
	if r, ok := ring.below(2); !ok || r.CPU != 1 {
		t.Errorf("a ring: %+v, %v", r, ok)
	}
	if _, ok := tr.below(99); ok {
		t.Error("a process that is not there has used something")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(stat(1, 2, 3, 4, 5))
	f.Add("1 ) (")
	f.Fuzz(func(t *testing.T, line string) {
		if p, err := parseStat([]byte(line), 4096); err == nil && p.pid == p.parent && p.pid > 0 {
			if _, ok := newTree([]process{p}).below(p.pid); !ok {
				t.Error("it is not in its own tree")
			}
		}
	})
}

// TestARealProcess reads this process and a child of it that has burnt CPU and ended.
func TestARealProcess(t *testing.T) {
	if os.Getenv("BURN") != "" {
		for began := cpu(t, os.Getpid()); cpu(t, os.Getpid()) < began+100*time.Millisecond; { //nolint:revive // that is what it is for
		}
		fmt.Println("burnt")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	before, ok := realTree(t).below(os.Getpid())
	if !ok {
		t.Fatal("this process is not found")
	}
	child := exec.Command(os.Args[0], "-test.run=^TestARealProcess$")
	child.Env = append(os.Environ(), "BURN=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after, _ := realTree(t).below(os.Getpid())
	if used := after.CPU - before.CPU; used < 90*time.Millisecond {
		t.Errorf("the child has used %v", used)
	}
	s, err := read([]Pod{{Containers: []Container{{Run: "here", Shim: os.Getppid()}, {Run: "nowhere", Shim: -1}}}})
	if r := s.runs["here"]; err != nil || r.Memory <= 0 || len(s.runs) != 1 || s.node.CPU <= 0 || s.node.Memory <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestRealGroups reads control groups with a process in them.
func TestRealGroups(t *testing.T) {
	m, err := manager.New(&cgroups.Cgroup{Path: fmt.Sprintf("ebb-metrics-test-%d", os.Getpid()), Resources: &cgroups.Resources{SkipDevices: true}})
	if err != nil {
		t.Skipf("no control groups here: %v", err)
	}
	t.Cleanup(func() { _ = m.Destroy() })
	child := exec.Command(os.Args[0], "-test.run=^TestARealProcess$")
	child.Env = append(os.Environ(), "BURN=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = child.Wait() }()
	if err := m.Apply(child.Process.Pid); err != nil {
		t.Skipf("this user may not make control groups here: %v", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "burnt\n" {
		t.Fatalf("%q, %v", line, err)
	}
	r, err := readGroups(m.GetPaths())
	if err != nil {
		t.Skipf("this machine's control groups do not count: %v", err)
	}
	if r.CPU < 50*time.Millisecond || r.CPU > time.Minute || r.Memory <= 0 || r.Memory > 1<<30 {
		t.Errorf("%+v", r)
	}
}

func realTree(t *testing.T) tree {
	t.Helper()
	tr, err := readTree("/proc")
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	return realTree(t).all[pid].own
}

func TestMachine(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("stat", "cpu  100 10 20 5000 700 5 6 7 100 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	put("meminfo", "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n")
	if r, err := readMachine(dir); err != nil || r != (Reading{CPU: 1480 * time.Millisecond, Memory: 600 << 10}) {
		t.Errorf("%+v, %v", r, err)
	}
	put("stat", "nothing\n")
	if _, err := readMachine(dir); err == nil {
		t.Error("a strange file is taken")
	}
}
