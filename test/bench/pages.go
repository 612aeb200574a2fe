package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
)

// pages are what processes hold in memory, each page of a file once, however many of
// them map it.
type pages struct {
	own   int            // anonymous ones
	files map[string]set // by device and inode
}

// set of page numbers.
type set map[uint64]uint64

func (s set) add(n uint64) { s[n/64] |= 1 << (n % 64) }

// mapping is a line of /proc/PID/maps.
type mapping struct {
	start, end, offset uint64
	file               string // device and inode; empty for memory of no file
}

// parseMaps reads /proc/PID/maps.
func parseMaps(text []byte) ([]mapping, error) {
	var all []mapping
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 5 {
			return nil, fmt.Errorf("maps: %q has too few fields", line)
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		offset, err3 := strconv.ParseUint(fields[2], 16, 64)
		if err1 != nil || err2 != nil || err3 != nil || end < start {
			return nil, fmt.Errorf("maps: %q is not understood", line)
		}
		m := mapping{start: start, end: end, offset: offset}
		if fields[4] != "0" {
			m.file = fields[3] + "/" + fields[4]
		}
		all = append(all, m)
	}
	return all, nil
}

// Bits of an entry of /proc/PID/pagemap: the page is in memory; it is a file's (or shared).
const (
	pagePresent = 1 << 63
	pageOfFile  = 1 << 61
)

// add what a process holds.
func (p *pages) add(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	all, err := parseMaps(text)
	if err != nil {
		return err
	}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return err
	}
	defer pagemap.Close()
	size := uint64(os.Getpagesize())
	const atOnce = 8192 // entries read at a time
	buffer := make([]byte, 8*atOnce)
	for _, m := range all {
		if m.start >= 1<<63 {
			continue // the kernel's own page
		}
		for page := m.start / size; page < m.end/size; page += atOnce {
			n := min(atOnce, m.end/size-page)
			if _, err := pagemap.ReadAt(buffer[:8*n], int64(8*page)); err != nil {
				return fmt.Errorf("pagemap of %d: %w", pid, err)
			}
			for i := range n {
				p.note(m, binary.NativeEndian.Uint64(buffer[8*i:]), m.offset/size+page+i-m.start/size)
			}
		}
	}
	return nil
}

// note one page of a mapping, which is page number n of its file.
func (p *pages) note(m mapping, entry, n uint64) {
	switch {
	case entry&pagePresent == 0:
	case m.file == "" || entry&pageOfFile == 0:
		p.own++
	default:
		if p.files == nil {
			p.files = map[string]set{}
		}
		if p.files[m.file] == nil {
			p.files[m.file] = set{}
		}
		p.files[m.file].add(n)
	}
}

// mb is the sum.
func (p *pages) mb() float64 {
	n := p.own
	for _, file := range p.files {
		for _, word := range file {
			n += bits.OnesCount64(word)
		}
	}
	return float64(n) * float64(os.Getpagesize()) / (1 << 20)
}
