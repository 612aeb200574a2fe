package ir

import (
	"fmt"
	"net/netip"
	"strings"
)

// Protocol is what the endpoints of a cluster speak.
type Protocol string

const (
	HTTP1 Protocol = "http1" // HTTP/1.1, with upgrades
	H2C   Protocol = "h2c"   // HTTP/2 with prior knowledge only
	Auto  Protocol = "auto"  // both; the client's protocol is used
)

// Cluster is a set of endpoints that answer alike.
type Cluster struct {
	Name     string // see RevisionCluster
	Owner    Owner
	Protocol Protocol
	// Stats is under what requests are counted, see [RevisionStats]; "" is not at all.
	Stats string `json:",omitempty"`
}

// Health of an endpoint as the control plane sees it.
type Health string

const (
	Healthy  Health = ""
	Draining Health = "draining" // finishes what it has, gets nothing new
)

// Endpoint is one address that serves requests.
type Endpoint struct {
	Name    string // of the pod or the activator; for people and reports
	Address netip.AddrPort
	Health  Health
	Hold    string `json:",omitempty"` // the name of the [Hold] by way of which it is reached; "" is directly
}

// Hold is the way to one activator that loses nothing when the activator dies: what it
// had not begun to pass on is taken to another one, or to itself once it is back.
type Hold struct {
	Name       string
	Activators []Endpoint // the one to use, and then those that stand in for it; at least one
	// Identity is the URI that the activators' certificates must have; the gateway shows its own. "" is
	// plain text.
	Identity string `json:",omitempty"`
}

// Trust is how gateways and activators prove to each other what they are.
type Trust struct {
	// Files, PEM, that every gateway has, and reads again when they change.
	CertificateFile, KeyFile, AuthoritiesFile string
	// Activators is the URI in the certificates of activators.
	Activators string
}

// Endpoints are a cluster's endpoints by priority: 0 the pods, 1 the activators,
// which are used when no pod is healthy. Priority 1 is never empty.
type Endpoints struct {
	Cluster    string
	Owner      Owner
	Priorities [2][]Endpoint // each sorted by Name
}

// RevisionCluster is the name of a revision's cluster. It is made only of what
// never changes: rev/<namespace>/<name>/<uid>.
func RevisionCluster(namespace, name, uid string) string {
	return "rev/" + namespace + "/" + name + "/" + uid
}

// ParseRevisionCluster is the inverse of RevisionCluster.
func ParseRevisionCluster(cluster string) (namespace, name, uid string, err error) {
	p := strings.Split(cluster, "/")
	if len(p) != 4 || p[0] != "rev" || p[1] == "" || p[2] == "" || p[3] == "" {
		return "", "", "", fmt.Errorf("cluster %q is not of the form rev/<namespace>/<name>/<uid>", cluster)
	}
	return p[1], p[2], p[3], nil
}

// RevisionStats is under what a revision's requests are counted:
// revision/<namespace>/<service>/<name>. It is the same for revisions of one name that come
// after each other. A revision of no service has its own name for that too.
func RevisionStats(namespace, service, name string) string {
	if service == "" {
		service = name
	}
	return "revision/" + namespace + "/" + service + "/" + name
}
