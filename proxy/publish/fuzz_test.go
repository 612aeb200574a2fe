package publish_test

import (
	"log/slog"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/proxy/members"
	"ebb.dev/ebb/proxy/publish"
)

// FuzzMember: whatever an activator says of pods and of what waits, before and after the world is known, is taken.
func FuzzMember(f *testing.F) {
	for _, m := range []*link.FromActivator{
		{Shares: []*link.Share{{Cluster: "rev/a/b/c", Pod: "p", Turn: 1, Mine: true, InFlight: 1 << 31}}, Waiting: []*link.Waiting{{Cluster: "rev/a/b/c", On: true}}, Told: true},
		{Hello: &link.Hello{Name: "a", Process: "p", Address: "127.0.0.1:1", Turn: 1 << 63}, Leaving: true},
		{Shares: []*link.Share{{}, {Cluster: "rev/a/b/c"}}, Waiting: []*link.Waiting{{}, {Cluster: "rev/a/b/c"}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		p, err := publish.New(publish.Options{Settings: settings.NewStore(), Logger: slog.New(slog.DiscardHandler), Activators: members.New(members.Options{})})
		if err != nil {
			t.Fatal(err)
		}
		for i, raw := range [][]byte{one, two, one} {
			m := new(link.FromActivator)
			if proto.Unmarshal(raw, m) != nil {
				continue
			}
			p.Members([]members.Member{{Name: "a", ID: "a@p", Address: netip.MustParseAddrPort("127.0.0.1:1"), Leaving: m.GetLeaving()}})
			p.Turn(m.GetHello().GetTurn())
			p.Shares("a@p", m.GetShares(), i == 0)
			p.Waits("a@p", m.GetWaiting(), i == 0)
		}
		p.Gone("a@p")
	})
}
