package up

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/cmd/ebb/datadir"
	"ebb.dev/ebb/cmd/ebb/gateway"
	"ebb.dev/ebb/cmd/ebb/supervise"
	"ebb.dev/ebb/proxy/envoy"
)

// Names of the parts, as lines, log files and `ebb status` show them.
const (
	partEtcd       = "etcd"
	partAPIServer  = "kube-apiserver"
	partKCM        = "kube-controller-manager"
	partNode       = "node"
	partRegistry   = "registry"
	partController = "controller"
	partActivator  = "activator"
	partGateway    = "gateway"
	partNATS       = "nats"
	partEventing   = "eventing"
)

// quickLists makes Kubernetes' clients list in one answer: the end of a streamed list is told by a
// bookmark that comes once a second, and every start would wait for it.
const quickLists = "KUBE_FEATURE_WatchListClient=false"

// gatewayService is the name of the in-cluster listener, for the core Services of Routes.
const gatewayService = "ebb-gateway-internal." + systemNamespace + ".svc.cluster.local"

func portRequests(o Options) []datadir.PortRequest {
	gateway := datadir.PortRequest{Name: "gateway", Fixed: o.Port, Flag: "--port", Host: o.Address}
	requests := []datadir.PortRequest{
		gateway,
		{Name: "internal", Fixed: o.InternalPort, Flag: "--internal-port"}, {Name: "registry", Remember: true}, {Name: "apiserver"}, {Name: "etcd"}, {Name: "etcd-peer", Remember: true},
		{Name: "kubelet"}, {Name: "node-metrics"}, {Name: "xds"}, {Name: "webhook"}, {Name: "controller-metrics"}, {Name: "activator"},
		{Name: "activator-drain"}, {Name: "activator-metrics"}, {Name: "gateway-admin"}, {Name: "gateway-metrics"}, {Name: "gateway-https", Host: o.Address},
	}
	secure := len(requests) - 1
	if o.Eventing {
		requests = append(requests,
			datadir.PortRequest{Name: "nats"}, datadir.PortRequest{Name: "nats-metrics"}, datadir.PortRequest{Name: "events", Prefer: prefer(o, 8082)}, datadir.PortRequest{Name: "eventing-metrics"}, datadir.PortRequest{Name: "eventing-inspect"})
	}
	if !o.ThrowAway { // numbers that people know, where they are free
		requests[1].Prefer, requests[2].Prefer, requests[secure].Prefer = 8081, 5000, 8443
	}
	for i := 1; i < max(o.Activators, 1); i++ {
		requests = append(requests, datadir.PortRequest{Name: activatorPart(i)}, datadir.PortRequest{Name: activatorPart(i) + "-metrics"})
	}
	for i := 1; i < max(o.Controllers, 1); i++ {
		for _, what := range []string{"xds", "webhook", "metrics"} {
			requests = append(requests, datadir.PortRequest{Name: controllerPort(i, what)})
		}
	}
	return requests
}

// prefer is a number that people know, for a platform whose gateway has one too. One with a free port may be beside others,
// which would take the number while a part that was killed is started again.
func prefer(o Options, port int) int {
	if o.ThrowAway || o.Port == 0 {
		return 0
	}
	return port
}

// controllerPart is the name of one of the controllers, from 0.
func controllerPart(i int) string {
	if i == 0 {
		return partController
	}
	return fmt.Sprintf("%s-%d", partController, i)
}

// controllerPort is the name of a port of one of the controllers: xds, webhook or metrics.
func controllerPort(i int, what string) string {
	if i == 0 && what != "metrics" {
		return what
	}
	return controllerPart(i) + "-" + what
}

// controllers are all their names.
func (l *layout) controllers() []string {
	names := make([]string, max(l.options.Controllers, 1))
	for i := range names {
		names[i] = controllerPart(i)
	}
	return names
}

// control are the addresses of all controllers; the one that leads listens.
func (l *layout) control() string {
	var all []string
	for i := range l.controllers() {
		all = append(all, l.at(controllerPort(i, "xds")))
	}
	return strings.Join(all, ",")
}

// layout is everything the parts have to be told.
type layout struct {
	dir      datadir.Dir
	options  Options
	programs programs
	envoy    string
	ports    map[string]int
	newPeer  bool                                // etcd's stored peer URL is not the present one
	ready    func(context.Context, string) error // asks the kube-apiserver for a path
	nodeUp   func(context.Context) error

	isolation string // of pods, in words; known once the node is ready
}

func (l *layout) at(port string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.ports[port]))
}

func (l *layout) external() string {
	return net.JoinHostPort(l.options.Address, strconv.Itoa(l.ports["gateway"]))
}

func (l *layout) externalHTTPS() string {
	return net.JoinHostPort(l.options.Address, strconv.Itoa(l.ports["gateway-https"]))
}

func (l *layout) spec(part, program string, ready func(context.Context) error, args ...string) supervise.Spec {
	return supervise.Spec{Name: part, Path: program, Args: args, Log: l.dir.Log(part), Ready: ready}
}

func (l *layout) etcd() supervise.Spec {
	client, peer := "http://"+l.at("etcd"), "http://"+l.at("etcd-peer")
	s := l.spec(partEtcd, l.programs.kube, httpReady(client+"/health"),
		"etcd", "--name=ebb", "--data-dir="+l.dir.Path("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=ebb="+peer,
		"--log-level=warn", "--auto-compaction-mode=periodic", "--auto-compaction-retention=10m",
		"--snapshot-count=10000", "--quota-backend-bytes=1073741824")
	if l.newPeer {
		s.Args = append(s.Args, "--force-new-cluster")
	}
	if l.options.ThrowAway {
		s.Args = append(s.Args, "--unsafe-no-fsync")
	}
	s.Env = []string{"GOGC=50"}
	return s
}

func (l *layout) apiserver() supervise.Spec {
	p := l.dir.PKI
	s := l.spec(partAPIServer, l.programs.kube, func(ctx context.Context) error { return l.ready(ctx, "/readyz") },
		"kube-apiserver", "--etcd-servers=http://"+l.at("etcd"),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", l.ports["apiserver"]),
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file="+p("apiserver.crt"), "--tls-private-key-file="+p("apiserver.key"), "--client-ca-file="+p("ca.crt"),
		"--kubelet-client-certificate="+p("kubelet-client.crt"), "--kubelet-client-key="+p("kubelet-client.key"),
		"--kubelet-certificate-authority="+p("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file="+p("sa.pub"), "--service-account-signing-key-file="+p("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--authorization-mode=RBAC", "--profiling=false",
		"--enable-priority-and-fairness=false", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--requestheader-client-ca-file="+p("front-proxy-ca.crt"), "--requestheader-allowed-names="+frontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+p(frontProxy+".crt"), "--proxy-client-key-file="+p(frontProxy+".key"))
	s.Grace = 3 * time.Second // it waits for watches to end; etcd holds the state
	if l.options.AuditLog != "" {
		s.Args = append(s.Args, "--audit-policy-file="+l.auditPolicy(), "--audit-log-path="+l.options.AuditLog, "--audit-log-mode=blocking")
	}
	return s
}

func (l *layout) auditPolicy() string { return l.dir.Path("audit-policy.yaml") }

// auditPolicy is of the requests of the controller and of the eventing part, without what is in them.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["` + controllerUser + `", "` + eventingUser + `"]}
- {level: None}
`

func (l *layout) kcm() supervise.Spec {
	config := l.dir.PKI("kcm.kubeconfig")
	s := l.spec(partKCM, l.programs.kube, nil,
		"kube-controller-manager", "--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--secure-port=0", "--leader-elect=false", "--kube-api-qps=300", "--kube-api-burst=600", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+l.dir.PKI("sa.key"), "--root-ca-file="+l.dir.PKI("ca.crt"),
		"--controllers=deployment-controller,replicaset-controller,garbage-collector-controller,namespace-controller,"+
			"serviceaccount-controller,horizontal-pod-autoscaler-controller,resourcequota-controller,pod-garbage-collector-controller,"+
			"root-ca-certificate-publisher-controller,clusterrole-aggregation-controller,"+
			"persistentvolume-binder-controller,persistentvolumeclaim-protection-controller,persistentvolume-protection-controller,ephemeral-volume-controller",
		"--horizontal-pod-autoscaler-sync-period=5s") // the node measures as often
	s.Env = []string{"GOGC=40", quickLists}
	return s
}

func (l *layout) node() supervise.Spec {
	p := l.dir.PKI
	s := l.spec(partNode, l.programs.node, l.nodeUp,
		"--kubeconfig="+p("node.kubeconfig"), "--name="+nodeName, "--data="+l.dir.Path("node"), "--address=127.0.0.1", "--listen="+l.at("kubelet"),
		"--tls-cert="+p("node-server.crt"), "--tls-key="+p("node-server.key"), "--client-ca="+p("ca.crt"),
		"--metrics-listen="+l.at("node-metrics"), "--metrics-cert="+p("node-metrics.crt"), "--metrics-key="+p("node-metrics.key"),
		"--metrics-client-ca="+p("front-proxy-ca.crt"), "--metrics-client-name="+frontProxy,
		"--gateway-service="+gatewayService, "--cluster-local="+l.at("internal"), "--shim="+l.programs.shim, "--isolation="+l.options.Isolation)
	s.Env = []string{quickLists}
	return s
}

func (l *layout) registry() supervise.Spec {
	return l.spec(partRegistry, l.programs.node, httpReady("http://"+l.at("registry")+"/v2/"),
		"registry", "--listen="+l.at("registry"), "--data="+l.dir.Path("registry"))
}

// controller is one of them. The kube-apiserver asks the admission of the first.
func (l *layout) controller(i int) supervise.Spec {
	p := l.dir.PKI
	args := []string{
		"controller", "--kubeconfig=" + p("controller.kubeconfig"), "--namespace=" + systemNamespace,
		"--xds-listen=" + l.at(controllerPort(i, "xds")), "--tls-cert=" + p("mesh-controller.crt"), "--tls-key=" + p("mesh-controller.key"), "--tls-ca=" + p("mesh-ca.crt"),
		"--gateway-tls-cert=" + p("mesh-gateway.crt"), "--gateway-tls-key=" + p("mesh-gateway.key"), "--gateway-tls-ca=" + p("mesh-ca.crt"),
		"--webhook-listen=" + l.at(controllerPort(i, "webhook")), "--webhook-cert=" + p("webhook.crt"), "--webhook-key=" + p("webhook.key"),
		"--metrics-listen=" + l.at(controllerPort(i, "metrics")), "--drain-address=" + l.at("activator-drain"),
		"--http-listen=" + l.external(), "--https-listen=" + l.externalHTTPS(), "--http-internal-listen=" + l.at("internal"),
		"--gateway-service=" + gatewayService, fmt.Sprintf("--leader-elect=%t", len(l.controllers()) > 1),
	}
	if l.options.Verbose {
		args = append(args, "--verbose")
	}
	return l.spec(controllerPart(i), l.programs.ebb, httpReady("http://"+l.at(controllerPort(i, "metrics"))+"/readyz"), args...)
}

// activatorPart is the name of one of the activators, from 0.
func activatorPart(i int) string {
	if i == 0 {
		return partActivator
	}
	return fmt.Sprintf("%s-%d", partActivator, i)
}

// activators are all their names.
func (l *layout) activators() []string {
	names := make([]string, max(l.options.Activators, 1))
	for i := range names {
		names[i] = activatorPart(i)
	}
	return names
}

// activator is one of them. They share the address for hooks: one that is gone takes none.
func (l *layout) activator(i int) supervise.Spec {
	p, part := l.dir.PKI, activatorPart(i)
	return l.spec(part, l.programs.ebb, httpReady("http://"+l.at(part+"-metrics")+"/readyz"),
		"activator", fmt.Sprintf("--name=activator-%d", i), "--listen="+l.at(part), "--drain-listen="+l.at("activator-drain"), "--drain-shared", "--control="+l.control(),
		"--tls-cert="+p("mesh-activator.crt"), "--tls-key="+p("mesh-activator.key"), "--tls-ca="+p("mesh-ca.crt"),
		"--metrics-listen="+l.at(part+"-metrics"))
}

// nats is the store of events. A test's platform may lose what the machine loses, as with etcd.
func (l *layout) nats() supervise.Spec {
	p := l.dir.PKI
	return l.spec(partNATS, l.programs.ebb, httpReady("http://"+l.at("nats-metrics")+"/readyz"),
		"nats", "--name=ebb", "--listen="+l.at("nats"), "--data="+l.dir.Path("events"), "--max-store=1Pi", // a topic takes of the disk what its events need, not what it may have
		"--metrics-listen="+l.at("nats-metrics"),
		"--tls-cert="+p("mesh-nats.crt"), "--tls-key="+p("mesh-nats.key"), "--tls-ca="+p("mesh-ca.crt"))
}

// EventsURL is where events are sent: the address of a Broker is its namespace and name below it. It is an
// address of this machine, which its pods, who share the network, and its users reach alike.
func (l *layout) eventsURL() string { return "http://" + l.at("events") }

func (l *layout) eventing() supervise.Spec {
	p := l.dir.PKI
	args := []string{
		"eventing", "--kubeconfig=" + p("eventing.kubeconfig"), "--namespace=" + systemNamespace,
		"--listen=" + l.at("events"), "--ingress-url=" + l.eventsURL(), "--nats=nats://" + l.at("nats"),
		"--nats-embedded", "--nats-tls-cert=" + p("mesh-eventing.crt"), "--nats-tls-key=" + p("mesh-eventing.key"), "--nats-tls-ca=" + p("mesh-ca.crt"), "--cluster-local=" + l.at("internal"),
		"--control=" + l.at("xds"), "--tls-cert=" + p("mesh-eventing.crt"), "--tls-key=" + p("mesh-eventing.key"), "--tls-ca=" + p("mesh-ca.crt"),
		"--metrics-listen=" + l.at("eventing-metrics"), "--inspect-listen=" + l.at("eventing-inspect"), "--leader-elect=false", "--drain-timeout=5s",
	}
	if l.options.Verbose {
		args = append(args, "--verbose")
	}
	return l.spec(partEventing, l.programs.ebb, httpReady("http://"+l.at("eventing-metrics")+"/readyz"), args...)
}

// gatewayDrain is how long requests may take after Ctrl-C; a second one ends them at once.
const gatewayDrain = 5 * time.Second

func (l *layout) gatewayConfig() gateway.Config {
	return gateway.Config{
		Bootstrap: envoy.BootstrapConfig{
			NodeID: "gateway-0", Controller: l.control(), Admin: l.at("gateway-admin"), Metrics: l.at("gateway-metrics"),
			TLS:      &envoy.BootstrapTLS{CertFile: l.dir.PKI("mesh-gateway.crt"), KeyFile: l.dir.PKI("mesh-gateway.key"), CAFile: l.dir.PKI("mesh-ca.crt")},
			Overload: gateway.Limits(envoy.OverloadLimits{}),
		},
		File: l.dir.Path("envoy.yaml"), Envoy: l.envoy, Concurrency: 2, Timeout: gatewayDrain, Logger: slog.New(slog.DiscardHandler),
	}
}

func (l *layout) gateway() supervise.Spec {
	s := l.gatewayConfig().Spec(partGateway)
	s.Log = l.dir.Log(partGateway)
	return s
}

// httpReady asks once for 200.
func httpReady(url string) func(context.Context) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}
