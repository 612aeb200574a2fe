package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/image"
	"ebb.dev/ebb/cmd/ebb/user"
)

// Session connects the user's commands to the platform.
func (p *Platform) Session(out, errOut io.Writer) (*user.Session, error) {
	config, err := clientcmd.BuildConfigFromFlags("", p.dir.Kubeconfig())
	if err != nil {
		return nil, err
	}
	s, err := user.NewSession(config, "default", out, errOut)
	if err != nil {
		return nil, err
	}
	running := p.Running()
	s.Local = &running
	return s, nil
}

// Caller makes HTTP requests to services through the gateway, whatever the host name
// resolves to.
func (p *Platform) Caller() *http.Client {
	gateway := p.Running().Gateway
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, gateway)
		},
		MaxIdleConnsPerHost: 1000,
	}}
}

// try deploys a Go package with no pod, calls it, and says what happened when.
func (p *Platform) try(ctx context.Context, path string) error {
	name := filepath.Base(strings.TrimSuffix(path, "/"))
	s, err := p.Session(io.Discard, io.Discard)
	if err != nil {
		return err
	}
	p.progress.Print("\n")
	p.progress.Line("building %s", path)
	ref, err := image.Build(ctx, path, p.Running().Registry, name)
	if err != nil {
		return err
	}
	p.progress.Line("pushed %s", ref)
	svc, outcome, err := s.Deploy(ctx, user.Deployment{Name: name, Image: ref, Annotations: map[string]string{"autoscaling.knative.dev/initial-scale": "0"}})
	if err != nil {
		return err
	}
	ready, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("service "+name+" did not get ready in two minutes: `ebb describe "+name+"` shows why"))
	defer cancel()
	if svc, err = s.AwaitReady(ready, svc, func(line string) { p.progress.Line("  %s", line) }); err != nil {
		return err
	}
	p.progress.Line("service %s %s: %s", name, outcome, svc.Status.URL)
	pods, err := s.Replicas(ctx, mostUsed(svc))
	if err != nil {
		return err
	}
	caller := p.Caller()
	first, body, err := call(ctx, caller, svc.Status.URL)
	if err != nil {
		return fmt.Errorf("call %s: %w", svc.Status.URL, err)
	}
	how := "from zero"
	if pods > 0 {
		how = fmt.Sprintf("with %d pod(s) there already,", pods)
	}
	p.progress.Line("the first call, %s, took %s and answered: %s", how, first.Round(time.Millisecond), strings.TrimSpace(body))
	if err := p.awaitReplicas(ctx, s, mostUsed(svc), func(n int32) bool { return n > 0 }); err != nil {
		return err
	}
	second, _, err := call(ctx, caller, svc.Status.URL)
	if err != nil {
		return fmt.Errorf("call %s: %w", svc.Status.URL, err)
	}
	p.progress.Line("the next one, straight from Envoy to the pod, took %s", second.Round(10*time.Microsecond))
	p.progress.Print(`
Next, in another terminal:

  curl %s
  ebb deploy %s --env TARGET=again      # a second revision, which takes the traffic
  ebb traffic %s --rollback             # back to the first

(ebb is %s.) Without calls the service is back at zero after about 90 s. Ctrl-C ends the platform.
`, svc.Status.URL, name, name, p.programs.ebb)
	return nil
}

// mostUsed is the revision with the largest share of the traffic.
func mostUsed(svc *v1.Service) string {
	name, most := svc.Status.LatestReadyRevisionName, int64(0)
	for _, t := range svc.Status.Traffic {
		if t.Percent != nil && *t.Percent > most {
			name, most = t.RevisionName, *t.Percent
		}
	}
	return name
}

// call makes one GET; an answer other than 200 is an error.
func call(ctx context.Context, caller *http.Client, url string) (time.Duration, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	began := time.Now()
	response, err := caller.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	took := time.Since(began)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return took, string(body), err
}

func (p *Platform) awaitReplicas(ctx context.Context, s *user.Session, revision string, enough func(int32) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		n, err := s.Replicas(ctx, revision)
		return err == nil && enough(n), err
	})
}
