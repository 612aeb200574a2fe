package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// sender posts events over one connection, one at a time.
type sender struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	out     []byte
}

var payload = bytes.Repeat([]byte("x"), size)

func (s *sender) post(ctx context.Context, i int) (status int, err error) {
	s.out = fmt.Appendf(s.out[:0], "POST /bench/main HTTP/1.1\r\nHost: bench\r\nCe-Specversion: 1.0\r\nCe-Id: %d\r\nCe-Source: /bench\r\nCe-Type: dev.ebb.bench\r\nCe-Time: 2026-01-02T03:04:05Z\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", i, len(payload))
	s.out = append(s.out, payload...)
	return s.exchange(ctx)
}

// postBatch sends the events from i to before end as one batch.
func (s *sender) postBatch(ctx context.Context, i, end int) (status int, err error) {
	body := []byte{'['}
	for ; i < end; i++ {
		body = fmt.Appendf(body, `{"specversion":"1.0","id":"%d","source":"/bench","type":"dev.ebb.bench","time":"2026-01-02T03:04:05Z","datacontenttype":"text/plain","data":"%s"},`, i, payload)
	}
	body[len(body)-1] = ']'
	s.out = fmt.Appendf(s.out[:0], "POST /bench/main HTTP/1.1\r\nHost: bench\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n", len(body))
	s.out = append(s.out, body...)
	return s.exchange(ctx)
}

func (s *sender) exchange(ctx context.Context) (status int, err error) {
	if s.conn == nil {
		if s.conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", s.address); err != nil {
			return 0, err
		}
		s.in = bufio.NewReader(s.conn)
	}
	_ = s.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err = s.conn.Write(s.out); err == nil {
		var m message
		if m, err = readMessage(s.in); err == nil {
			_, code, _ := bytes.Cut(m.first, []byte(" "))
			status, err = strconv.Atoi(string(code[:min(3, len(code))]))
		}
	}
	if err != nil {
		s.close()
	}
	return status, err
}

func (s *sender) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// message is what is needed of an HTTP/1.1 request or answer with a Content-Length.
type message struct {
	first []byte
	id    int // Ce-Id
}

func readMessage(in *bufio.Reader) (message, error) {
	m := message{id: -1}
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return m, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if m.first == nil {
			m.first = bytes.Clone(line)
			continue
		}
		if len(line) == 0 {
			_, err := in.Discard(length)
			return m, err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return m, err
			}
		case bytes.EqualFold(name, []byte("ce-id")):
			if m.id, err = strconv.Atoi(string(value)); err != nil {
				return m, err
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			return m, errors.New("a message without a length")
		}
	}
}

// subscriber answers every event with 202 and remembers when it came.
type subscriber struct {
	listener net.Listener
	address  string
	mu       sync.Mutex
	came     map[int]time.Time
	all      int
	changed  chan struct{}
}

func newSubscriber(ctx context.Context) (*subscriber, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &subscriber{listener: l, address: l.Addr().String(), came: map[int]time.Time{}, changed: make(chan struct{}, 1)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

func (s *subscriber) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		m, err := readMessage(in)
		if err != nil {
			return
		}
		s.add(m.id)
		if _, err := io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

func (s *subscriber) add(id int) {
	now := time.Now()
	s.mu.Lock()
	s.all++
	if _, twice := s.came[id]; !twice {
		s.came[id] = now
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// await returns when n different events came.
func (s *subscriber) await(ctx context.Context, n int) error {
	for {
		if distinct, _ := s.counts(); distinct >= n {
			return nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *subscriber) counts() (distinct, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came), s.all
}

func (s *subscriber) first(id int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came[id]
}

func (s *subscriber) close() { _ = s.listener.Close() }
