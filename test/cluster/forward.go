//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// loopback are listeners of the machine for ports of the node's loopback.
type loopback map[int]net.Listener

func listen(ports ...int) (loopback, error) {
	all := loopback{}
	for _, port := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			all.close()
			return nil, fmt.Errorf("%w (choose other ports with $EBB_CLUSTER_FLAGS, --api-port and --registry-port)", err)
		}
		all[port] = l
	}
	return all, nil
}

func (all loopback) close() {
	for _, l := range all {
		l.Close()
	}
}

// forward has the node's loopback, in its network namespace, answer under the same ports.
func (all loopback) forward(namespace *os.File) {
	for port, l := range all {
		go func() {
			for {
				from, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer from.Close()
					to, err := dialIn(namespace, port)
					if err != nil {
						return
					}
					defer to.Close()
					both(from.(*net.TCPConn), to.(*net.TCPConn))
				}()
			}
		}()
	}
}

// dialIn connects to a port of the loopback of a network namespace. The thread that has been
// there is not used again.
func dialIn(namespace *os.File, port int) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		conn, err := func() (net.Conn, error) {
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			f := os.NewFile(uintptr(fd), "forward")
			defer f.Close()
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return nil, err
			}
			return net.FileConn(f)
		}()
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// both copies until both directions have ended.
func both(a, b *net.TCPConn) {
	var wait sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		wait.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[1].CloseWrite()
		})
	}
	wait.Wait()
}
