package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// wire is one HTTP/1.1 connection that asks for the same thing again and again. It costs far less
// processor time than net/http's client, so that on a machine with few processors the
// proxies are measured and not the client.
type wire struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	undo    func() bool
}

// answer to one request.
type answer struct {
	status   int
	revision string // K-Revision
	last     bool   // the other side closes the connection
	err      error  // the connection is of no use any more
}

func (a answer) ok() bool { return a.err == nil && a.status == http.StatusOK }

func (a answer) problem() error {
	if a.err != nil {
		return a.err
	}
	return fmt.Errorf("answered %d", a.status)
}

// dial connects. What the connection does ends with ctx.
func dial(ctx context.Context, address, host, path string) (*wire, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn, reader: bufio.NewReaderSize(conn, 4096), request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	w.undo = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return w, nil
}

func (w *wire) close() {
	w.undo()
	w.conn.Close()
}

// get sends the request and reads the answer to its end.
func (w *wire) get() answer {
	if _, err := w.conn.Write(w.request); err != nil {
		return answer{err: err}
	}
	return w.read()
}

var (
	contentLength = []byte("content-length")
	kRevision     = []byte("k-revision")
	connection    = []byte("connection")
)

func (w *wire) read() (a answer) {
	line, err := w.reader.ReadSlice('\n')
	if err != nil {
		return answer{err: err}
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return answer{err: fmt.Errorf("not an HTTP/1.1 answer: %q", line)}
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return answer{err: fmt.Errorf("not an HTTP/1.1 answer: %q", line)}
	}
	length := -1
	for {
		if line, err = w.reader.ReadSlice('\n'); err != nil {
			return answer{err: err}
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, contentLength):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return answer{err: fmt.Errorf("header %q: %w", line, err)}
			}
		case bytes.EqualFold(name, kRevision):
			a.revision = string(value)
		case bytes.EqualFold(name, connection):
			a.last = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return answer{status: a.status, err: errors.New("an answer without Content-Length is not understood here")}
	}
	if _, err := w.reader.Discard(length); err != nil {
		return answer{status: a.status, err: err}
	}
	return a
}

// ask once, on a connection of its own.
func ask(ctx context.Context, address, host string) answer {
	w, err := dial(ctx, address, host, "/")
	if err != nil {
		return answer{err: err}
	}
	defer w.close()
	return w.get()
}

// loaded is what load saw.
type loaded struct {
	took    []float64 // of each request that was answered with 200, ms
	during  time.Duration
	lost    int
	problem error // the last one
}

// load sends requests one after the other on each connection: so many a connection, or for so long when each is 0.
func load(ctx context.Context, address, host string, connections, each int, during time.Duration) loaded {
	var mu sync.Mutex
	var all loaded
	var group sync.WaitGroup
	began := time.Now()
	until := began.Add(during)
	for range connections {
		group.Go(func() {
			var mine loaded
			if each > 0 {
				mine.took = make([]float64, 0, each)
			}
			var w *wire
			for i := 0; ctx.Err() == nil && mine.lost < 100; i++ {
				if (each > 0 && i >= each) || (each == 0 && !time.Now().Before(until)) {
					break
				}
				sent := time.Now()
				var a answer
				if w == nil {
					if w, a.err = dial(ctx, address, host, "/"); a.err != nil {
						w = nil
					}
				}
				if w != nil {
					a = w.get()
				}
				if a.ok() {
					mine.took = append(mine.took, milliseconds(time.Since(sent)))
				} else if ctx.Err() == nil {
					mine.lost, mine.problem = mine.lost+1, a.problem()
				}
				if (a.err != nil || a.last) && w != nil {
					w.close()
					w = nil
				}
			}
			if w != nil {
				w.close()
			}
			mu.Lock()
			defer mu.Unlock()
			all.took = append(all.took, mine.took...)
			all.lost += mine.lost
			if mine.problem != nil {
				all.problem = mine.problem
			}
		})
	}
	group.Wait()
	all.during = time.Since(began)
	return all
}
