package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"time"
)

// Free ports are taken from below the range that Linux hands out to outgoing
// connections, so that a stored port is still free at the next start.
const (
	portLow  = 21000
	portHigh = 32000
)

// patience is how long the ports of an earlier start may take to become free: a killed
// process has its sockets for a moment longer than anything else that shows it.
const patience = 2 * time.Second

// PortRequest asks for a TCP port on 127.0.0.1.
type PortRequest struct {
	Name     string
	Fixed    int    // this one or an error; 0 for none
	Flag     string // how the user chose Fixed, for the error
	Host     string // address it will be bound to; 127.0.0.1 when empty
	Prefer   int    // tried first when nothing is stored; 0 for none
	Remember bool   // state depends on it: when it is taken, say so
}

// Ports returns a port for each request: the fixed one, else the one stored by an
// earlier start if it is free, else a free one; and stores them. moved names the
// requests that remember a port and had to get another one.
func (d Dir) Ports(requests []PortRequest) (ports map[string]int, moved []string, err error) {
	stored := map[string]int{}
	path := d.Path("ports.json")
	if text, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(text, &stored); err != nil {
			return nil, nil, fmt.Errorf("%s is damaged (%w): delete it", path, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	ports = map[string]int{}
	used := map[int]bool{}
	take := func(host string, port int) bool {
		if port <= 0 || used[port] || !free(host, port) {
			return false
		}
		used[port] = true
		return true
	}
	deadline := time.Now().Add(patience)
	await := func(host string, port int) {
		for !used[port] && !free(host, port) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	// Fixed ones first, then stored ones, so that a random one never takes them.
	for _, r := range requests {
		if r.Fixed == 0 {
			continue
		}
		if stored[r.Name] == r.Fixed {
			await(r.host(), r.Fixed)
		}
		if !take(r.host(), r.Fixed) {
			return nil, nil, &PortTakenError{Port: r.Fixed, Flag: r.Flag, Name: r.Name, Holder: holder(r.Fixed)}
		}
		ports[r.Name] = r.Fixed
	}
	for _, r := range requests {
		if old := stored[r.Name]; ports[r.Name] == 0 && old != 0 {
			await(r.host(), old)
			if take(r.host(), old) {
				ports[r.Name] = old
			} else if r.Remember {
				moved = append(moved, r.Name)
			}
		}
	}
	for _, r := range requests {
		if ports[r.Name] != 0 {
			continue
		}
		if take(r.host(), r.Prefer) {
			ports[r.Name] = r.Prefer
			continue
		}
		for tries := 0; ports[r.Name] == 0; tries++ {
			if tries == 1000 {
				return nil, nil, fmt.Errorf("no free port between %d and %d for %s", portLow, portHigh, r.Name)
			}
			if port := portLow + rand.IntN(portHigh-portLow); take(r.host(), port) {
				ports[r.Name] = port
			}
		}
	}
	slices.Sort(moved)
	return ports, moved, writeJSON(path, ports)
}

func (r PortRequest) host() string {
	if r.Host == "" {
		return "127.0.0.1"
	}
	return r.Host
}

func free(host string, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// PortTakenError is a port that the user asked for and somebody else has.
type PortTakenError struct {
	Port   int
	Flag   string
	Name   string
	Holder string // who has it, if that can be seen; may be empty
}

func (e *PortTakenError) Error() string {
	who := "another process"
	if e.Holder != "" {
		who = e.Holder
	}
	return fmt.Sprintf("port %d for the %s is taken by %s: end it, or choose another port with %s PORT (0 picks a free one)", e.Port, e.Name, who, e.Flag)
}
