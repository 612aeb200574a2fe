package ping

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/eventing/event"
)

// sink keeps the ids that came, in their order.
type sink struct {
	mu  sync.Mutex
	ids []string
}

func (s *sink) take(_ context.Context, e *event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, e.ID)
	return nil
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

func pingSource(t *testing.T, schedule string, after time.Time, send func(context.Context, *event.Event) error) Source {
	t.Helper()
	parsed, wrong := sourcesv1.ParseSchedule(schedule, "Europe/Berlin")
	if wrong != nil {
		t.Fatal(wrong)
	}
	return Source{UID: "u", Namespace: "default", Name: "ping", Schedule: schedule, Next: parsed.Next, After: after, Send: send, Data: []byte("{}"), ContentType: "application/json", Extensions: map[string]string{"tenant": "a"}}
}

// lead runs a runner until the function that it returns is called.
func lead(r *Runner) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

func ids(from, to time.Time, every time.Duration) (want []string) {
	for at := from; !at.After(to); at = at.Add(every) {
		want = append(want, fmt.Sprintf("u-%d", at.Unix()))
	}
	return want
}

func TestTicksAreSentAtTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, to := time.Now(), &sink{}
		r := NewRunner(slog.New(slog.DiscardHandler), nil)
		defer lead(r)()
		r.Set(pingSource(t, "*/30 * * * * *", begin, to.take))
		time.Sleep(95 * time.Second)
		want := ids(begin.Add(30*time.Second), begin.Add(90*time.Second), 30*time.Second)
		if got := to.all(); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
		if last, ok := r.Last("u"); !ok || !last.Equal(begin.Add(90*time.Second)) {
			t.Errorf("done up to %v, %v", last, ok)
		}
		// Another schedule holds from now on, and one that goes sends nothing any more.
		r.Set(pingSource(t, "* * * * *", begin, to.take))
		time.Sleep(30 * time.Second)
		r.Remove("u")
		time.Sleep(time.Hour)
		if got, want := to.all(), append(want, fmt.Sprintf("u-%d", begin.Add(120*time.Second).Unix())); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

func TestEventOfATick(t *testing.T) {
	s := pingSource(t, "* * * * *", time.Time{}, nil)
	e := Event(&s, time.Date(2026, 3, 1, 10, 0, 0, 0, time.FixedZone("", 3600)))
	if e.ID != "u-1772355600" || e.Source != "/apis/v1/namespaces/default/pingsources/ping" || e.Time != "2026-03-01T09:00:00Z" || e.Type != "dev.knative.sources.ping" {
		t.Errorf("the event is %+v", e)
	}
	if v, _ := e.Get("tenant"); v != "a" || e.Validate() != nil {
		t.Errorf("the event is %+v: %v", e, e.Validate())
	}
}

// TestLeadersChange: whatever leaders do, each tick is sent, and its event has the same id whoever sends it.
func TestLeadersChange(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			begin, to := time.Now(), &sink{}
			noted := begin // what the status of the object says
			slow := func(ctx context.Context, e *event.Event) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Duration(random.IntN(3000)) * time.Millisecond):
				}
				return to.take(ctx, e)
			}
			for range 10 {
				r := NewRunner(slog.New(slog.DiscardHandler), nil)
				r.Set(pingSource(t, "*/10 * * * * *", noted, slow))
				stop := lead(r)
				time.Sleep(time.Duration(random.IntN(120_000)) * time.Millisecond)
				// The note is of some time before the end.
				if last, _ := r.Last("u"); random.IntN(3) > 0 {
					noted = last
				}
				stop()
				time.Sleep(time.Duration(random.IntN(60_000)) * time.Millisecond)
			}
			r := NewRunner(slog.New(slog.DiscardHandler), nil)
			r.Set(pingSource(t, "*/10 * * * * *", noted, slow))
			stop := lead(r)
			time.Sleep(15 * time.Second)
			stop()
			got := to.all()
			slices.Sort(got)
			got = slices.Compact(got) // the store's duplicate window
			last, _ := r.Last("u")
			want := ids(begin.Add(10*time.Second), last, 10*time.Second)
			if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
				t.Errorf("seed %d: %d ticks of %d were sent", seed, len(got), len(want))
			}
		})
	}
}

func TestLongAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, to := time.Now(), &sink{}
		time.Sleep(24 * time.Hour)
		// Ticks of the last hour at most, and the latest hundred of them.
		for _, of := range []struct {
			schedule string
			want     int
		}{{"* * * * * *", MaxTicks}, {"* * * * *", 60}, {"0 * * * *", 1}} {
			r := NewRunner(slog.New(slog.DiscardHandler), nil)
			r.Set(pingSource(t, of.schedule, begin, to.take))
			stop := lead(r)
			synctest.Wait()
			stop()
			if got := len(to.all()); got != of.want {
				t.Errorf("%s: %d ticks, want %d", of.schedule, got, of.want)
			}
			to.ids = nil
		}
	})
}

func TestOneSinkThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, to := time.Now(), &sink{}
		r := NewRunner(slog.New(slog.DiscardHandler), nil)
		defer lead(r)()
		hangs := pingSource(t, "* * * * * *", begin, func(ctx context.Context, _ *event.Event) error { <-ctx.Done(); return ctx.Err() })
		hangs.UID = "hangs"
		refuses := pingSource(t, "* * * * * *", begin, func(context.Context, *event.Event) error { return errors.New("no") })
		refuses.UID = "refuses"
		r.Set(hangs)
		r.Set(refuses)
		r.Set(pingSource(t, "* * * * * *", begin, to.take))
		time.Sleep(600*time.Second + time.Millisecond)
		if got := len(to.all()); got != 600 {
			t.Errorf("%d ticks, want 600", got)
		}
		if last, _ := r.Last("hangs"); last.After(begin.Add(time.Second)) {
			t.Errorf("of the one that hangs all are done up to %v", last)
		}
		if last, _ := r.Last("refuses"); !last.Equal(begin.Add(600 * time.Second)) {
			t.Errorf("of the one that refuses all are done up to %v", last)
		}
	})
}
