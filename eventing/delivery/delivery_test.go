package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// TestTranscripts drives one event after another through the decision:
//
//	deliver retry=N backoff=exponential|linear delay=D [retry-after-max=D] [random=F]
//	STATUS [retry-after=HEADER] [reply|bad-reply]     one line an attempt; "none" is no answer
//
// and writes what is decided, with the time since the first attempt.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "deliver" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			policy := plan.Delivery{Timeout: time.Minute}
			var backoff, delay string
			after, random := "0s", "0"
			d.ScanArgs(t, "retry", &policy.Retry)
			d.ScanArgs(t, "backoff", &backoff)
			d.ScanArgs(t, "delay", &delay)
			for name, into := range map[string]*string{"retry-after-max": &after, "random": &random} {
				if d.HasArg(name) {
					d.ScanArgs(t, name, into)
				}
			}
			policy.Backoff = plan.Backoff(backoff)
			policy.Delay, policy.RetryAfterMax = duration(t, delay), duration(t, after)
			var jitter float64
			if _, err := fmt.Sscan(random, &jitter); err != nil {
				t.Fatal(err)
			}
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			begin, out := now, strings.Builder{}
			for i, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
				a := answer(t, line, now)
				decision := Decide(policy, i+1, a, jitter)
				fmt.Fprintf(&out, "%v attempt %d: %s", now.Sub(begin), i+1, decision.Verdict)
				if decision.Verdict == Retry {
					fmt.Fprintf(&out, " after %v", decision.After)
				}
				out.WriteString("\n")
				now = now.Add(decision.After)
			}
			return out.String()
		})
	})
}

func answer(t *testing.T, line string, now time.Time) (a Answer) {
	status, rest, _ := strings.Cut(line, " ")
	if status != "none" {
		if _, err := fmt.Sscan(status, &a.Status); err != nil {
			t.Fatal(err)
		}
	}
	for rest != "" {
		switch header, is := strings.CutPrefix(rest, "retry-after="); {
		case is:
			a.RetryAfter, rest = RetryAfter(header, now), ""
		case rest == "reply":
			a.Reply, rest = OneEvent, ""
		case rest == "bad-reply":
			a.Reply, rest = BadEvent, ""
		default:
			t.Fatalf("what is %q?", rest)
		}
	}
	return a
}

func duration(t *testing.T, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestWhatIsTriedAgain holds the table of the contract.
func TestWhatIsTriedAgain(t *testing.T) {
	for status := -1; status < 1000; status++ {
		retriable := status < 100 || status >= 500 || status == 404 || status == 408 || status == 409 || status == 429
		want := Dead
		switch {
		case status >= 200 && status < 300:
			want = Accept
		case retriable:
			want = Retry
		}
		if got := Decide(plan.Delivery{Retry: 1}, 1, Answer{Status: status}, 0).Verdict; got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
		if want == Retry {
			if got := Decide(plan.Delivery{Retry: 1}, 2, Answer{Status: status}, 0).Verdict; got != Dead {
				t.Errorf("%d, the last time: %v, want dead", status, got)
			}
		}
	}
}

func TestWaitsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := plan.Delivery{
			Retry: rapid.IntRange(0, 1<<20).Draw(t, "retry"), Backoff: rapid.SampledFrom([]plan.Backoff{plan.Exponential, plan.Linear}).Draw(t, "backoff"),
			Delay:         time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "delay")),
			RetryAfterMax: time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "retry-after-max")),
		}
		a := Answer{Status: rapid.SampledFrom([]int{0, 404, 429, 500, 503}).Draw(t, "status"), RetryAfter: time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "retry-after"))}
		attempt, random := rapid.IntRange(1, 1<<20).Draw(t, "attempt"), rapid.Float64Range(0, 0.999).Draw(t, "random")
		least, got := Backoff(d, attempt), Wait(d, attempt, a, random)
		if a.Status == 429 || a.Status == 503 {
			least = max(least, min(a.RetryAfter, d.RetryAfterMax))
		}
		if got < least || float64(got) > float64(least)*(1+MaxJitter) {
			t.Fatalf("waits %v, want %v and up to a tenth more", got, least)
		}
		if next := Backoff(d, attempt+1); next < Backoff(d, attempt) {
			t.Fatalf("attempt %d waits %v, the next one %v", attempt, Backoff(d, attempt), next)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "1.5": 0, "soon": 0, "99999999999999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := RetryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	e := &event.Event{ID: "1", Source: "/s", Type: "t", Extensions: []event.Attribute{{Name: "tenant", Value: "a"}}}
	for _, tc := range []struct {
		name             string
		failure          Failure
		dest, code, data string
	}{
		{"an answer", Failure{Destination: "http://a.default.svc.cluster.local/", Code: 422, Body: []byte("no such order")}, "http://a.default.svc.cluster.local/", "422", "bm8gc3VjaCBvcmRlcg=="},
		{"an empty answer", Failure{Destination: "http://a/", Code: 500}, "http://a/", "500", ""},
		{"no answer", Failure{Destination: "http://a/", Err: errors.New("connection refused")}, "http://a/", "500", "ZGlzcGF0Y2ggZXJyb3I6IGNvbm5lY3Rpb24gcmVmdXNlZA=="},
		{"a password", Failure{Destination: "http://user:secret@a/", Code: 401}, "http://user:xxxxx@a/", "401", ""},
		{"a long answer", Failure{Destination: "http://a/", Code: 500, Body: bytes.Repeat([]byte("abc"), 1000)}, "http://a/", "500", strings.Repeat("YWJj", 256)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dead := tc.failure.Mark(tc.failure.Mark(e))
			for name, want := range map[string]string{ErrorDest: tc.dest, ErrorCode: tc.code, ErrorData: tc.data, "tenant": "a"} {
				if got, there := dead.Get(name); got != want || there != (want != "") {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
			if _, marked := Read(e); marked || len(e.Extensions) != 1 {
				t.Errorf("the event itself has %v", e.Extensions)
			}
			if f, marked := Read(dead); !marked || f.Destination != tc.dest || fmt.Sprint(f.Code) != tc.code {
				t.Errorf("read back: %+v", f)
			}
			if alive := Unmark(dead); len(alive.Extensions) != 1 {
				t.Errorf("without the marks: %v", alive.Extensions)
			}
		})
	}
}

func TestHopsRunOut(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	e := &event.Event{ID: "0", Source: "/s", Type: "t"}
	e.SetExtension("traceparent", trace)
	hops := 0
	for {
		reply := &event.Event{ID: fmt.Sprint(hops), Source: "/s", Type: "t"}
		reply.SetExtension(HopLimit, "100000") // it is not asked
		if !Follow(e, reply) {
			break
		}
		if got, _ := reply.Get("traceparent"); got != trace {
			t.Fatalf("the trace of the reply is %q", got)
		}
		hops++
		e = reply
	}
	if hops != DefaultHops-1 {
		t.Errorf("%d replies, want %d", hops, DefaultHops-1)
	}
	own := &event.Event{ID: "r", Source: "/s", Type: "t"}
	own.SetExtension("traceparent", "another")
	if Follow(e, own); own.Extensions[1].Value != "another" {
		t.Errorf("a reply in a trace of its own: %v", own.Extensions)
	}
}
