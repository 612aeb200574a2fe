package probe_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ebb.dev/ebb/local/probe"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestCounter(t *testing.T) {
	c := probe.Counter{Success: 2, Failure: 3}
	var got []bool
	for _, ok := range []bool{true, true, true, false, false, true, false, false, false, false} {
		got = append(got, c.Add(ok))
	}
	if want := []bool{false, true, true, false, false, false, false, false, true, true}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestEager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		probe.Run(ctx, probe.Options{
			Spec: &v1.Probe{PeriodSeconds: 5, FailureThreshold: 1}, Eager: true,
			Check: func(context.Context) error {
				if time.Since(begin) < 100*time.Millisecond {
					tries++
					return errors.New("not yet")
				}
				return nil
			},
			Result: func(ok bool, _ error) bool { return !ok },
		})
		cancel()
		if d := time.Since(begin); d > 150*time.Millisecond || tries < 4 {
			t.Errorf("ready after %v and %d tries", d, tries)
		}
	})
}

func TestLivenessPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		probe.Run(t.Context(), probe.Options{
			Spec:   &v1.Probe{PeriodSeconds: 5, FailureThreshold: 3, InitialDelaySeconds: 7},
			Check:  func(context.Context) error { return errors.New("dead") },
			Result: func(ok bool, _ error) bool { return ok },
		})
		if d := time.Since(begin); d != 17*time.Second {
			t.Errorf("failed after %v", d)
		}
	})
}

func TestCheck(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/healthz" || q.Host != "me" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	port := s.Listener.Addr().(*net.TCPAddr).Port
	ports := func(p intstr.IntOrString) (int, error) { return port, nil }
	get := func(path string) error {
		return probe.Check(t.Context(), v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080), HTTPHeaders: []v1.HTTPHeader{{Name: "Host", Value: "me"}}}}, "127.0.0.1", ports, nil)
	}
	if err := get("/healthz"); err != nil {
		t.Error(err)
	}
	if err := get("/other"); err == nil || err.Error() != "HTTP probe failed with statuscode: 500" {
		t.Error(err)
	}
	if err := probe.Check(t.Context(), v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, "127.0.0.1", ports, nil); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	state.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	rpc := int32(l.Addr().(*net.TCPAddr).Port)
	own := func(p intstr.IntOrString) (int, error) { return p.IntValue(), nil }
	for service, words := range map[string]string{"": "", "sick": "NOT_SERVING", "unknown": "unknown service"} {
		err := probe.Check(t.Context(), v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: rpc, Service: &service}}, "127.0.0.1", own, nil)
		if (err == nil) != (words == "") || err != nil && !strings.Contains(err.Error(), words) {
			t.Errorf("grpc service %q: %v", service, err)
		}
	}
	failed := errors.New("exit code 1")
	exec := func(_ context.Context, command []string) error {
		if len(command) == 1 && command[0] == "good" {
			return nil
		}
		return failed
	}
	if err := probe.Check(t.Context(), v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"good"}}}, "127.0.0.1", ports, exec); err != nil {
		t.Error(err)
	}
	if err := probe.Check(t.Context(), v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"bad"}}}, "127.0.0.1", ports, exec); !errors.Is(err, failed) {
		t.Error(err)
	}
}
