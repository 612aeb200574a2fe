package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"ebb.dev/ebb/test/counter"
)

func main() {
	a := &app{target: os.Getenv("TARGET"), revision: os.Getenv("K_REVISION")}
	if text := os.Getenv("FAIL_AT_START"); text != "" {
		log.Fatal(text)
	}
	if delay, err := time.ParseDuration(os.Getenv("START_DELAY")); err == nil {
		time.Sleep(delay) // a service that needs time to start
	}
	if url := os.Getenv("START_WHEN"); url != "" {
		awaitGo(url)
	}
	rpc := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(rpc, &echoService{app: a})
	mux := a.routes()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	listener, err := listen(":" + cmp.Or(os.Getenv("PORT"), "8080"))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		ConnContext: counter.ConnContext,
		Protocols:   protocols, ReadHeaderTimeout: 10 * time.Second,
		Handler: listener.told(a.counted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				rpc.ServeHTTP(w, r)
				return
			}
			mux.ServeHTTP(w, r)
		}))),
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	well := make(chan os.Signal, 1)
	signal.Notify(well, syscall.SIGUSR1)
	go func() {
		for range well {
			listener.restore()
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	log.Printf("%s listens on %s", a.revision, listener.address)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-done
}

// app counts what it has in progress: requests, websockets and streams alike.
type app struct {
	target, revision string

	counter counter.Counter
	area    area
	held    atomic.Pointer[[]byte]
}

func (a *app) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("K-Revision", a.revision)
		if r.URL.Path == "/counters" { // looking does not count
			next.ServeHTTP(w, r)
			return
		}
		a.area.change(1)
		defer a.area.change(-1)
		defer a.counter.Begin(r)()
		next.ServeHTTP(w, r)
	})
}

func (a *app) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s\n", a.revision, a.target)
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Host: %s\n", r.Host)
		_ = r.Header.Write(w)
	})
	mux.HandleFunc("/sleep", a.sleep)
	mux.HandleFunc("/bytes", a.bytes)
	mux.HandleFunc("/burn", a.burn)
	mux.HandleFunc("POST /hold", a.hold)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_ = http.NewResponseController(w).EnableFullDuplex() // else HTTP/1.1 stops reading when the answer begins
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		if code := number(w, r, "code", 200, 599); code >= 200 {
			w.WriteHeader(code)
		}
	})
	mux.HandleFunc("/events", a.events)
	mux.HandleFunc("POST /reply", reply)
	mux.HandleFunc("/ws", websocketEcho)
	mux.HandleFunc("/contract", contract)
	mux.HandleFunc("PUT /file", putFile)
	mux.HandleFunc("GET /file", getFile)
	mux.HandleFunc("/counters", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		now, most, total := a.counter.Counts()
		fmt.Fprintf(w, `{"now":%d,"most":%d,"area":%.6f,"total":%d}`+"\n", now, most, a.area.change(0), total)
	})
	mux.HandleFunc("POST /crash", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		log.Printf("told to crash with exit code %d", code)
		os.Exit(code)
	})
	return mux
}

// number reads a query parameter; -1 after it has answered 400.
func number(w http.ResponseWriter, r *http.Request, name string, low, high int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < low || n > high {
		http.Error(w, fmt.Sprintf("%s is a number from %d to %d", name, low, high), http.StatusBadRequest)
		return -1
	}
	return n
}

// sleep answers after ?ms=N milliseconds.
func (a *app) sleep(w http.ResponseWriter, r *http.Request) {
	ms := number(w, r, "ms", 0, 600_000)
	if ms < 0 {
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		fmt.Fprintf(w, "%s slept %d ms\n", a.revision, ms)
	case <-r.Context().Done():
	}
}

// burn keeps a CPU busy until the caller goes.
func (a *app) burn(_ http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
	}
}

// hold takes ?mi=N mebibytes of memory, in use, for as long as the process lives.
func (a *app) hold(w http.ResponseWriter, r *http.Request) {
	n := number(w, r, "mi", 0, 4<<10)
	if n < 0 {
		return
	}
	held := make([]byte, n<<20)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	a.held.Store(&held)
	fmt.Fprintf(w, "%s holds %d Mi\n", a.revision, n)
}

// bytes answers with ?n=N bytes.
func (a *app) bytes(w http.ResponseWriter, r *http.Request) {
	n := number(w, r, "n", 0, 1<<30)
	if n < 0 {
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	chunk := []byte(strings.Repeat("e", 64<<10))
	for n > 0 {
		written, err := w.Write(chunk[:min(n, len(chunk))])
		if err != nil {
			return
		}
		n -= written
	}
}

// events sends ?n=N server-sent events, one each ?ms=M milliseconds.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	n, ms := number(w, r, "n", 1, 10_000), number(w, r, "ms", 1, 60_000)
	if n < 0 || ms < 0 {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ticker := time.NewTicker(time.Duration(ms) * time.Millisecond)
	defer ticker.Stop()
	for i := range n {
		fmt.Fprintf(w, "id: %d\ndata: %s\n\n", i, a.revision)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// websocketEcho sends each message back until the other side closes.
func websocketEcho(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(32 << 20)
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}
