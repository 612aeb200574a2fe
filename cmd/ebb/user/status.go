package user

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/cmd/ebb/output"
	"ebb.dev/ebb/proxy/xds"
)

// Part is one process of an embedded platform, or one pod of the platform on a cluster.
type Part struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	State  string `json:"state"`
	Memory int64  `json:"memory"` // resident, bytes

	Node     string `json:"node,omitempty"` // that the pod is on
	Restarts int32  `json:"restarts,omitempty"`
}

// PlatformStatus is what `ebb status` shows.
type PlatformStatus struct {
	Server     string          `json:"server"`
	Version    string          `json:"version"`
	Parts      []Part          `json:"parts,omitempty"`
	Controller json.RawMessage `json:"controller,omitempty"`
	Problems   []string        `json:"problems,omitempty"` // what could not be asked
	Nodes      int             `json:"nodes"`
	Isolation  string          `json:"isolation,omitempty"` // of the pods of an embedded node
	Services   int             `json:"services"`
	NotReady   int             `json:"notReady"`
	Pods       int             `json:"pods"`
	Gateway    string          `json:"gateway,omitempty"`
	Registry   string          `json:"registry,omitempty"`
	Kubeconfig string          `json:"kubeconfig,omitempty"`
}

// StatusCommand is `ebb status`.
func StatusCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "status", Short: "Show the parts of the platform and whether they serve",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			status, err := s.platformStatus(cmd.Context())
			if err != nil {
				return err
			}
			return s.printStatus(status)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	return cmd
}

func (s *Session) platformStatus(ctx context.Context) (*PlatformStatus, error) {
	version, err := s.Pods.Discovery().ServerVersion()
	if err != nil {
		return nil, s.explain(err, "the kube-apiserver")
	}
	st := &PlatformStatus{Server: s.Pods.CoreV1().RESTClient().Get().URL().Host, Version: version.GitVersion}
	var services v1.ServiceList
	if err := s.List(ctx, &services); err != nil {
		return nil, s.explain(err, "list services")
	}
	st.Services = len(services.Items)
	for i := range services.Items {
		if !services.Items[i].Status.Conditions.Get(v1.ConditionReady).IsTrue() {
			st.NotReady++
		}
	}
	var nodes corev1.NodeList
	if err := s.List(ctx, &nodes); err == nil {
		st.Nodes = len(nodes.Items)
		for i := range nodes.Items {
			st.Isolation = Isolation(&nodes.Items[i])
		}
	}
	var pods corev1.PodList
	if err := s.List(ctx, &pods); err == nil {
		st.Pods = len(pods.Items)
	}
	if s.Local != nil {
		st.Gateway, st.Registry, st.Kubeconfig = s.Local.Gateway, s.Local.Registry, s.Local.Kubeconfig
		st.Parts = parts(ctx, *s.Local)
	} else if err := s.podParts(ctx, st); err != nil {
		st.Problems = append(st.Problems, err.Error())
	}
	if text, err := s.ask(ctx, "/status", nil); err != nil {
		st.Problems = append(st.Problems, err.Error())
	} else if json.Valid(text) {
		st.Controller = text
	}
	return st, nil
}

// parts looks at the processes of a platform that runs here.
func parts(ctx context.Context, running datadir.Running) []Part {
	ready := map[string]string{
		"controller": running.Controller + "/readyz", "activator": running.Activator + "/readyz",
		"gateway": running.GatewayMetrics + "/ready", "registry": running.Registry + "/v2/",
	}
	for name, address := range running.Activators {
		ready[name] = address + "/readyz"
	}
	if running.Eventing != "" {
		ready["eventing"], ready["nats"] = running.Eventing+"/readyz", running.NATS+"/readyz"
	}
	for name, address := range running.Controllers {
		ready[name] = address + "/readyz"
	}
	var all []Part
	for name, pid := range running.Parts {
		part := Part{Name: name, PID: pid, State: "running", Memory: resident(pid)}
		if pid == 0 || part.Memory == 0 {
			part.State = "not running"
		} else if address := ready[name]; address != "" {
			part.State = "ready"
			if _, err := fetch(ctx, "http://"+address); err != nil {
				part.State = "not ready: " + err.Error()
			}
		}
		all = append(all, part)
	}
	slices.SortFunc(all, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// podParts are the platform's pods on a cluster.
func (s *Session) podParts(ctx context.Context, st *PlatformStatus) error {
	var pods corev1.PodList
	if err := s.List(ctx, &pods, client.InNamespace(serving.Namespace)); err != nil {
		return s.explain(err, "pods of namespace "+serving.Namespace)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		part := Part{Name: p.Name, State: podState(*p), Node: p.Spec.NodeName}
		switch {
		case podIsReady(p) && p.DeletionTimestamp == nil:
			part.State = "ready"
		case podTrouble(p) != nil:
			part.State = "not ready: " + podTrouble(p).String()
		}
		for _, c := range p.Status.ContainerStatuses {
			part.Restarts += c.RestartCount
		}
		st.Parts = append(st.Parts, part)
	}
	if len(st.Parts) == 0 {
		return errors.New("no pods in namespace " + serving.Namespace + ": Ebb's own parts do not run on this cluster")
	}
	return nil
}

// resident memory of a process in bytes, from /proc; 0 when there is none.
func resident(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", response.Status, strings.TrimSpace(string(text)))
	}
	return text, err
}

func (s *Session) printStatus(st *PlatformStatus) error {
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, st)
	case output.Name:
		for _, p := range st.Parts {
			fmt.Fprintln(s.Out, p.Name)
		}
		return nil
	}
	services := fmt.Sprintf("%d", st.Services)
	if st.NotReady > 0 {
		services += fmt.Sprintf(" (%d not ready: `ebb list -A`)", st.NotReady)
	}
	gateway := st.Gateway
	if gateway != "" {
		gateway = "http://NAME.NAMESPACE.localhost" + portOf(gateway)
	}
	if err := output.WriteFields(s.Out, [][2]string{
		{"Kubernetes", st.Version + " at " + st.Server},
		{"Services at", gateway},
		{"Registry", st.Registry},
		{"Kubeconfig", st.Kubeconfig},
		{"Services", services},
		{"Pods", strconv.Itoa(st.Pods)},
		{"Nodes", strconv.Itoa(st.Nodes)},
		{"Isolation", st.Isolation},
		{"Gateways", connected(st.Controller, xds.Gateway)},
		{"Activators", connected(st.Controller, xds.Activator)},
		{"Load reports", reporting(st.Controller, time.Now())},
		{"Problems", strings.Join(st.Problems, "\n")},
	}); err != nil {
		return err
	}
	if len(st.Parts) == 0 {
		return nil
	}
	fmt.Fprintln(s.Out)
	if st.Parts[0].Node != "" || st.Parts[0].PID == 0 && st.Kubeconfig == "" {
		return output.WriteTable(s.Out, s.Format, []output.Column[Part]{
			{Title: "PART", Value: func(p Part) string { return p.Name }},
			{Title: "STATE", Value: func(p Part) string { return p.State }},
			{Title: "RESTARTS", Value: func(p Part) string { return strconv.Itoa(int(p.Restarts)) }},
			{Title: "NODE", Value: func(p Part) string { return p.Node }},
		}, st.Parts)
	}
	return output.WriteTable(s.Out, s.Format, []output.Column[Part]{
		{Title: "PART", Value: func(p Part) string { return p.Name }},
		{Title: "STATE", Value: func(p Part) string { return p.State }},
		{Title: "PID", Value: func(p Part) string { return strconv.Itoa(p.PID) }},
		{Title: "MEMORY", Value: func(p Part) string { return fmt.Sprintf("%d MB", p.Memory>>20) }},
	}, st.Parts)
}

func portOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 && address[i:] != ":80" {
		return address[i:]
	}
	return ""
}

// Isolation says how the node keeps pods apart, and why not better; "" for a node that
// is not an embedded one.
func Isolation(node *corev1.Node) string {
	how, why := node.Annotations["ebb.dev/isolation"], node.Annotations["ebb.dev/isolation-reason"]
	switch {
	case how == "none":
		how = "plain processes of this user, not kept apart"
	case how != "":
		how = "processes in " + how
	}
	if how != "" && why != "" {
		how += " (" + why + ")"
	}
	return how
}
