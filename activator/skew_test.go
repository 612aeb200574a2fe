package activator

import (
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/proxy/link"
)

// newer adds fields to a message that this release does not know.
func newer(m proto.Message) {
	b := protowire.AppendTag(nil, 1000, protowire.BytesType)
	b = protowire.AppendString(b, "of the next release")
	b = protowire.AppendTag(b, 1001, protowire.VarintType)
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(b, 7))
}

// TestNewerControlPlane: a control plane of the next release says things that this activator does not know, in words that
// it does not know: it goes by the rest.
func TestNewerControlPlane(t *testing.T) {
	c := startControlPlane(t)
	a := startActivator(t, c)
	pod := app(t, "p1", echo)
	newer(pod)
	revision := revisionOf(pod)
	revision.Protocol = 99
	revision.Probe = &link.Probe{}
	newer(revision)
	newer(revision.Probe) // a kind of probe, maybe
	c.set(revision)
	for _, h2c := range []bool{false, true} {
		if status, text, _ := do(t, client(t, h2c), newRequest(t, a, http.MethodGet, "/x", nil)); status != http.StatusOK {
			t.Errorf("h2c %v: %d %q", h2c, status, text)
		}
	}
	to := &link.ToActivator{Releases: []*link.Release{{Cluster: testCluster, Pod: "p1", Turn: 1}}}
	newer(to)
	newer(to.Releases[0])
	raw, err := proto.Marshal(to)
	if err != nil {
		t.Fatal(err)
	}
	got := new(link.ToActivator)
	if err := proto.Unmarshal(raw, got); err != nil {
		t.Fatal(err)
	}
	a.member.take(got)
	c.await(t, "the release is answered", func() bool {
		for _, m := range c.heard {
			for _, s := range m.GetShares() {
				if s.GetPod() == "p1" && s.GetTurn() >= 1 && !s.GetMine() {
					return true
				}
			}
		}
		return false
	})
}
