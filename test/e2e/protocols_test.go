package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/test/e2e/platform"
)

func TestWebsocketThroughZero(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("chat", nil)
	c, _, err := websocket.Dial(t.Context(), n.URL("chat", "/ws"), &websocket.DialOptions{HTTPClient: n.Client(platform.External)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for i := range 50 {
		message := bytes.Repeat([]byte{byte(i)}, i*1000)
		if err := c.Write(t.Context(), websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
		kind, back, err := c.Read(t.Context())
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(back, message) {
			t.Fatalf("message %d came back as %d bytes, %v", i, len(back), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
	n.AwaitZero("chat")
}

func h2c(s *v1.Service) {
	s.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "h2c", ContainerPort: 8080}}
}

func TestGRPCThroughZero(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("rpc", h2c)
	conn, err := grpc.NewClient("passthrough:///gateway", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("rpc."+n.In+".localhost"),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return n.Dial(platform.External)(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := testgrpc.NewTestServiceClient(conn)

	var trailer metadata.MD
	payload := &testgrpc.Payload{Body: []byte("hello")}
	out, err := api.UnaryCall(t.Context(), &testgrpc.SimpleRequest{Payload: payload}, grpc.Trailer(&trailer))
	if err != nil || string(out.GetPayload().GetBody()) != "hello" {
		t.Fatalf("unary call from zero: %v, %v", out, err)
	}
	if got := trailer.Get("x-revision"); len(got) != 1 || got[0] != "rpc-00001" {
		t.Errorf("the trailer is %v", trailer)
	}
	_, err = api.UnaryCall(t.Context(), &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.NotFound), Message: "no such thing"}})
	if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != "no such thing" {
		t.Errorf("a status of the service arrives as %v", err)
	}

	n.AwaitZero("rpc")
	stream, err := api.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // one at a time, so that both directions are open
		body := fmt.Sprintf("message %d", i)
		err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: []byte(body)}})
		if err != nil {
			t.Fatal(err)
		}
		back, err := stream.Recv()
		if err != nil || string(back.GetPayload().GetBody()) != body {
			t.Fatalf("message %d came back as %v, %v", i, back, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if got := stream.Trailer().Get("x-revision"); len(got) != 1 || got[0] != "rpc-00001" {
		t.Errorf("the stream's trailer is %v", stream.Trailer())
	}
}

func TestBodiesThroughZero(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"100 KB": 100_000, "20 MB": 20_000_000} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
			n.DeployAtZero("echo", nil)
			body := make([]byte, size)
			_, _ = rand.Read(body)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL("echo", "/echo"), bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := platform.Call(n.Client(platform.External), r)
			if err != nil || answer.Status != http.StatusOK {
				t.Fatalf("%s, %v", answer, err)
			}
			if sha256.Sum256([]byte(answer.Body)) != sha256.Sum256(body) {
				t.Errorf("%d bytes came back as %d others", size, len(answer.Body))
			}
		})
	}
}

// TestEventsOutlastTheWindow: a stream that is longer than two windows begins at zero,
// arrives whole, and keeps its pod.
func TestEventsOutlastTheWindow(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("feed", nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL("feed", "/events?n=29&ms=500"), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := n.Client(platform.External).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	events := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if lines.Text() == fmt.Sprintf("id: %d", events) {
			events++
		}
	}
	if response.StatusCode != http.StatusOK || events != 29 {
		t.Errorf("%s with %d events, want 29", response.Status, events)
	}
}

func TestClientThatLeavesIsForgotten(t *testing.T) {
	n := begin(t)
	n.DeployAtZero("slow", func(s *v1.Service) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "START_DELAY", Value: "3s"}}
		s.Spec.Template.Annotations[serving.WindowAnnotation] = "60s" // nobody waits for the pod, which may take long
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	ended := make(chan error)
	go func() {
		_, err := n.Fetch(ctx, platform.External, n.URL("slow", "/"))
		ended <- err
	}()
	n.AwaitPods("slow", func(pods []*corev1.Pod) error {
		if len(pods) == 0 {
			return errors.New("there are none")
		}
		return nil
	})
	leave() // its pod is not up yet: it is held
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("the call that was to be left ended with %v", err)
	}
	pods := n.AwaitReadyPods("slow", 1)
	if a := n.FetchPod(pods[0], "/counters"); !strings.Contains(a.Body, `"total":0}`) {
		t.Errorf("the pod was asked for a client that had left: %s", a.Body)
	}
	if a := n.MustFetch(t, n.URL("slow", "/")); a.Revision() != "slow-00001" {
		t.Errorf("the next client gets %s", a)
	}
}

func TestTimeouts(t *testing.T) {
	n := begin(t)
	seconds := int64(2)
	n.DeployAtZero("hasty", func(s *v1.Service) {
		s.Spec.Template.Spec.TimeoutSeconds = &seconds
		s.Spec.Template.Annotations[serving.WindowAnnotation] = "30s"
	})
	// A busy machine may need longer than the timeout for the first one.
	n.AwaitAnswer(t, platform.External, n.URL("hasty", "/sleep?ms=100"), func(a platform.Answer) bool { return a.Status == http.StatusOK })
	for where, url := range map[string]string{"warm": n.URL("hasty", "/sleep?ms=60000")} {
		a, err := n.Fetch(t.Context(), platform.External, url)
		if err != nil || a.Status != http.StatusGatewayTimeout {
			t.Errorf("%s, a request over timeoutSeconds ends with %s, %v", where, a, err)
		}
	}
	n.DeployAtZero("late", func(s *v1.Service) {
		s.Spec.Template.Spec.TimeoutSeconds = &seconds
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "START_DELAY", Value: "60s"}}
	})
	a, err := n.Fetch(t.Context(), platform.External, n.URL("late", "/"))
	if err != nil || a.Status != http.StatusGatewayTimeout {
		t.Errorf("a request that is held for longer than timeoutSeconds ends with %s, %v", a, err)
	}
}

func TestContainerConcurrencyIsExact(t *testing.T) {
	n := begin(t)
	one := int64(1)
	n.DeployAtZero("narrow", func(s *v1.Service) {
		s.Spec.Template.Spec.ContainerConcurrency = &one
		s.Spec.Template.Annotations[serving.MaxScaleAnnotation] = "3"
		s.Spec.Template.Annotations[serving.WindowAnnotation] = "60s" // no pod goes before it was looked at
	})
	many(t, n, n.URL("narrow", "/sleep?ms=20"), 300, 20)
	pods := n.AwaitReadyPods("narrow", 3)
	total := 0
	for _, p := range pods {
		a := n.FetchPod(p, "/counters")
		var had struct{ Most, Total int }
		if err := json.Unmarshal([]byte(a.Body), &had); err != nil {
			t.Fatalf("%q: %v", a.Body, err)
		}
		if had.Most > 1 {
			t.Errorf("%s had %d requests at the same time", p.Name, had.Most)
		}
		total += had.Total
	}
	if total != 300 {
		t.Errorf("the pods counted %d requests, want 300", total)
	}
}
