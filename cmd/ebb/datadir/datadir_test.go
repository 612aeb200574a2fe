package datadir

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestPorts(t *testing.T) {
	d, err := At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	requests := []PortRequest{{Name: "a"}, {Name: "b", Remember: true}}
	first, moved, err := d.Ports(requests)
	if err != nil || len(moved) > 0 || first["a"] == first["b"] {
		t.Fatalf("%v %v %v", first, moved, err)
	}
	again, _, err := d.Ports(requests)
	if err != nil || again["a"] != first["a"] || again["b"] != first["b"] {
		t.Errorf("ports are not stable: %v then %v, %v", first, again, err)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	_, _, err = d.Ports([]PortRequest{{Name: "gateway", Fixed: port, Flag: "--port"}})
	var want *PortTakenError
	if !errors.As(err, &want) || !strings.Contains(err.Error(), "--port") || !strings.Contains(err.Error(), "datadir.test") {
		t.Errorf("got %v, want an error that names the flag and the holder", err)
	}

	if err := writeJSON(d.Path("ports.json"), map[string]int{"b": port}); err != nil {
		t.Fatal(err)
	}
	if _, moved, err = d.Ports(requests); err != nil || len(moved) != 1 || moved[0] != "b" {
		t.Errorf("moved %v, %v", moved, err)
	}
}

// TestAPortThatBecomesFree: what was killed a moment ago may still have its port.
func TestAPortThatBecomesFree(t *testing.T) {
	d, err := At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dying, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := dying.Addr().(*net.TCPAddr).Port
	if err := writeJSON(d.Path("ports.json"), map[string]int{"apiserver": port}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = dying.Close() })
	ports, moved, err := d.Ports([]PortRequest{{Name: "apiserver", Remember: true}})
	if err != nil || len(moved) > 0 || ports["apiserver"] != port {
		t.Errorf("ports %v, moved %v (%v), want %d to stay", ports, moved, err, port)
	}
}

func TestLockAndFormat(t *testing.T) {
	d, err := At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := d.Lock(); !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("second lock: %v", err)
	}
	if err := d.Open(false, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteRunning(Running{Gateway: "g"}); err != nil {
		t.Fatal(err)
	}
	if r, up := d.ReadRunning(); !up || r.Gateway != "g" {
		t.Errorf("running: %v %v", r, up)
	}
	lock.Release()
	if _, up := d.ReadRunning(); up {
		t.Error("still running after the lock was released")
	}
	if lock, err = d.Lock(); err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := os.WriteFile(d.Path("format"), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Open(false, 0); err == nil || !strings.Contains(err.Error(), "--clean") {
		t.Errorf("old state: %v", err)
	}
	if err := d.Open(true, 0); err != nil {
		t.Errorf("clean: %v", err)
	}
	if err := d.Open(false, 1<<62); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("full disk: %v", err)
	}
}

func TestAFolderOfSomethingElseIsLeftAlone(t *testing.T) {
	d, err := At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path("thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock(); err == nil {
		t.Error("it was locked")
	}
	for _, clean := range []bool{false, true} {
		if err := d.Open(clean, 0); err == nil {
			t.Errorf("clean=%v: no error", clean)
		}
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil || len(entries) != 1 || entries[0].Name() != "thesis.txt" {
		t.Errorf("the folder was touched: %v, %v", entries, err)
	}
}
