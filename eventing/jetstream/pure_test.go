package jetstream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/engine"
	"ebb.dev/ebb/eventing/event"
)

func TestNamesAreSafeAndDifferent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		for _, name := range []string{a, b} {
			if got := safe(name); len(got) > longest || strings.ContainsFunc(got, func(r rune) bool {
				return r <= ' ' || r > '~' || strings.ContainsRune(".*>/\\", r)
			}) {
				t.Errorf("%q became %q", name, got)
			}
		}
		if a != b && safe(a) == safe(b) {
			t.Errorf("%q and %q became %q", a, b, safe(a))
		}
	})
}

func TestMessageIDsAreDifferent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("a1:#\n é")), 0, 100, -1)
		a := &event.Event{Source: text.Draw(t, "source"), ID: text.Draw(t, "id")}
		b := &event.Event{Source: text.Draw(t, "other source"), ID: text.Draw(t, "other id")}
		if one := messageID(a); !plain(one) || len(one) > 90 {
			t.Errorf("%q, %q: %q", a.Source, a.ID, one)
		}
		if same := messageID(a) == messageID(b); same != (a.Source == b.Source && a.ID == b.ID) {
			t.Errorf("%q, %q and %q, %q: %q, %q", a.Source, a.ID, b.Source, b.ID, messageID(a), messageID(b))
		}
	})
}

func TestAnswersToAPublish(t *testing.T) {
	for text, want := range map[string]engine.Stored{
		`{"stream":"EBB-b_a","seq":12}`:                      {Sequence: 12},
		`{"stream":"EBB-b_a","seq":12,"duplicate": true}`:    {Sequence: 12, Duplicate: true},
		`{"stream":"EBB-b_a", "domain":"d", "seq": 7}`:       {Sequence: 7},
		`{"stream":"s","seq":18446744073709551615,"val":""}`: {Sequence: 1<<64 - 1},
	} {
		if got, err := parseStored([]byte(text)); got != want || err != nil {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]error{
		`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"s","seq":0}`: engine.ErrFull,
		`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"s","seq":0}`:    engine.ErrFull,
		`{"error":{"code":503,"err_code":10077,"description":"no space left on device"},"stream":"s","seq":0}`:   engine.ErrUnavailable,
		`{"error":{"code":503,"err_code":10023,"description":"insufficient resources"},"stream":"s","seq":0}`:    engine.ErrFull,
		`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}`:           engine.ErrTooLarge,
		`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`:       engine.ErrUnavailable,
		``: engine.ErrUnavailable, `{}`: engine.ErrUnavailable, `{"stream":"s","seq":0}`: engine.ErrUnavailable,
	} {
		if _, err := parseStored([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

func TestReplySubjects(t *testing.T) {
	for _, reply := range []string{"$JS.ACK.STREAM.CONSUMER.3.12.34.1000000000.5", "$JS.ACK.domain.ACCOUNT.STREAM.CONSUMER.3.12.34.1000000000.5", "$JS.ACK._.ACCOUNT.STREAM.CONSUMER.3.12.34.1000000000.5.token"} {
		d := &delivery{reply: reply}
		if err := d.parseReply(); err != nil {
			t.Fatal(err)
		}
		if d.Attempt() != 3 || d.Sequence() != 12 || !d.Published().Equal(time.Unix(1, 0)) {
			t.Errorf("%s: %+v", reply, d)
		}
	}
	for _, reply := range []string{"$JS.ACK.", "$JS.ACK.a.b.c.d.e.f.g", "$JS.ACK.S.C.1.2.3"} {
		if err := (&delivery{reply: reply}).parseReply(); err == nil {
			t.Errorf("%s was read", reply)
		}
	}
}

func TestEventsAreEncodedAndDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, some := rapid.String(), rapid.StringN(1, 20, -1)
		e := &event.Event{
			ID: some.Draw(t, "id"), Source: some.Draw(t, "source"), Type: some.Draw(t, "type"), Subject: text.Draw(t, "subject"),
			Time: text.Draw(t, "time"), DataContentType: text.Draw(t, "type of data"), DataSchema: text.Draw(t, "schema"), Data: []byte(text.Draw(t, "data")),
		}
		for _, name := range rapid.SliceOfDistinct(rapid.StringMatching("[a-z][a-z0-9]{0,8}x"), rapid.ID).Draw(t, "names") {
			e.SetExtension(name, text.Draw(t, name))
		}
		m := encode("subject", e)
		got, err := decode(&nats.Msg{Header: m.Header, Data: m.Data})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Error(diff)
		}
	})
	if _, err := decode(&nats.Msg{Header: nats.Header{"ce-id": {"1"}}}); err == nil {
		t.Error("a message without a source was taken for an event")
	}
}

// TestWhatIsYoungerThanTheWindowStays: only what everybody had acknowledged a window ago may go.
func TestWhatIsYoungerThanTheWindowStays(t *testing.T) {
	topic := &topic{}
	begin := time.Unix(1000, 0)
	at := func(seconds int, floor uint64) uint64 {
		return topic.settled(begin.Add(time.Duration(seconds)*time.Second), floor, 10*time.Second)
	}
	got := []uint64{at(0, 5), at(1, 7), at(9, 9), at(10, 9), at(11, 9), at(18, 9), at(19, 12), at(100, 12), at(101, 12)}
	if diff := cmp.Diff([]uint64{0, 0, 0, 5, 7, 0, 9, 12, 0}, got); diff != "" {
		t.Error(diff)
	}
	for n := range 10000 {
		if old := topic.settled(begin.Add(200*time.Second+time.Duration(n)*time.Millisecond), uint64(100+n), 10*time.Second); old >= 100 {
			t.Fatalf("%d may go after %d ms", old, n)
		}
		if len(topic.trims.marks) > 256 {
			t.Fatalf("%d marks", len(topic.trims.marks))
		}
	}
}
