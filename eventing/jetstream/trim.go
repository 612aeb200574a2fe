package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
)

// A stream whose retention is by interest would take away acknowledged events by itself. It is
// not used: it stores nothing while it knows of no consumer, and servers of a cluster can
// learn of a stream before they learn of its consumers, so an event could be acknowledged and
// be nowhere; every acknowledgement asks all consumers of the stream; a tail would keep
// events; and an event that is gone is no longer known as a duplicate after a restart.
//
// Instead, an engine that publishes into a topic purges up to the lowest place of its
// subscriptions: from time to time what is older than the window of duplicates, and
// everything when the topic is full. Any number of engines may do so at once.

const (
	trimEvents   = 4096     // published since the last time
	trimBytes    = 64 << 20 // published since the last time
	trimInterval = 30 * time.Second
)

// trims is when a topic is to be trimmed; topic.mu guards it.
type trims struct {
	running bool
	stopped bool
	events  int
	bytes   int
	again   *time.Timer
	marks   []mark
}

// mark is what every subscription had acknowledged at a time.
type mark struct {
	at    time.Time
	floor uint64
}

// published counts, and trims when it is worth it, or later.
func (t *topic) published(bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.trims
	s.events++
	s.bytes += bytes
	if s.stopped || s.running {
		return
	}
	if s.events < trimEvents && s.bytes < trimBytes {
		t.later()
		return
	}
	s.running = true
	go t.trimNow()
}

// later has the topic trimmed in a while. t.mu is held.
func (t *topic) later() {
	if t.trims.again == nil && !t.trims.stopped {
		t.trims.again = time.AfterFunc(trimInterval, func() {
			t.mu.Lock()
			t.trims.again = nil
			run := !t.trims.running && !t.trims.stopped
			t.trims.running = t.trims.running || run
			t.mu.Unlock()
			if run {
				t.trimNow()
			}
		})
	}
}

func (t *topic) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trims.stopped = true
	if t.trims.again != nil {
		t.trims.again.Stop()
	}
}

func (t *topic) trimNow() {
	ctx, cancel := context.WithTimeout(context.Background(), trimInterval)
	defer cancel()
	t.trim(ctx, false)
}

// trim purges what every subscription has and returns how many events went; when all is not set,
// only what was so before the window of duplicates.
func (t *topic) trim(ctx context.Context, all bool) uint64 {
	purged, rest, err := t.purge(ctx, all)
	if err != nil && !errors.Is(err, engine.ErrNoTopic) && ctx.Err() == nil {
		t.e.o.Logger.Warn("events that every subscription has were not taken away", "topic", t.name, "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !all {
		t.trims.running, t.trims.events, t.trims.bytes = false, 0, 0
		if rest > 0 && !errors.Is(err, engine.ErrNoTopic) {
			t.later()
		}
	}
	return purged
}

func (t *topic) purge(ctx context.Context, all bool) (purged, rest uint64, err error) {
	one, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	stream, err := t.e.js.Stream(one, t.stream)
	if err != nil {
		return 0, 1, mapped(err)
	}
	info := stream.CachedInfo()
	if info.Config.Metadata[keepAllMeta] != "false" || info.State.Msgs == 0 {
		return 0, 0, nil
	}
	floor, err := t.floor(ctx, info.State.LastSeq)
	if err != nil {
		return 0, 1, err
	}
	if !all {
		floor = t.settled(time.Now(), floor, info.Config.Duplicates)
	}
	if floor < info.State.FirstSeq {
		return 0, info.State.Msgs, nil
	}
	var answer struct {
		Error  *api.APIError `json:"error"`
		Purged uint64        `json:"purged"`
	}
	if err := t.e.ask(ctx, "STREAM.PURGE."+t.stream, map[string]uint64{"seq": floor + 1}, &answer); err != nil {
		return 0, 1, err
	}
	if answer.Error != nil {
		return 0, 1, mapped(answer.Error)
	}
	return answer.Purged, info.State.Msgs - min(answer.Purged, info.State.Msgs), nil
}

// settled is the newest floor that is older than the window.
func (t *topic) settled(now time.Time, floor uint64, window time.Duration) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	marks := &t.trims.marks
	if n := len(*marks); n == 0 || (*marks)[n-1].floor != floor {
		*marks = append(*marks, mark{now, floor})
	}
	old := uint64(0)
	for len(*marks) > 0 && now.Sub((*marks)[0].at) >= window {
		old = (*marks)[0].floor
		*marks = (*marks)[1:]
	}
	if len(*marks) > 256 { // many trims within a window: a coarser view is as safe
		kept := (*marks)[:0]
		for i, m := range *marks {
			if i%2 == 1 {
				kept = append(kept, m)
			}
		}
		*marks = kept
	}
	return old
}

// floor is the highest sequence up to which every durable consumer has acknowledged everything;
// last, the end of the stream before they were asked, when there is none. It fails rather
// than leave a consumer out.
func (t *topic) floor(ctx context.Context, last uint64) (uint64, error) {
	floor, seen, total := last, map[string]struct{}{}, -1
	for offset := 0; total < 0 || len(seen) < total; {
		var page struct {
			Error     *api.APIError `json:"error"`
			Total     int           `json:"total"`
			Missing   []string      `json:"missing"`
			Consumers []struct {
				Name     string `json:"name"`
				AckFloor struct {
					Stream uint64 `json:"stream_seq"`
				} `json:"ack_floor"`
				Config struct {
					Durable string `json:"durable_name"`
				} `json:"config"`
			} `json:"consumers"`
		}
		if err := t.e.ask(ctx, "CONSUMER.LIST."+t.stream, map[string]int{"offset": offset}, &page); err != nil {
			return 0, err
		}
		if page.Error != nil {
			return 0, mapped(page.Error)
		}
		if len(page.Missing) > 0 {
			return 0, fmt.Errorf("%w: %d consumers do not answer", engine.ErrUnavailable, len(page.Missing))
		}
		if total >= 0 && page.Total != total {
			return 0, errors.New("subscriptions changed while they were looked at")
		}
		total = page.Total
		before := len(seen)
		for _, c := range page.Consumers {
			seen[c.Name] = struct{}{}
			if c.Config.Durable != "" {
				floor = min(floor, c.AckFloor.Stream)
			}
		}
		if total == 0 || len(seen) == total {
			break
		}
		if len(seen) == before {
			return 0, errors.New("subscriptions changed while they were looked at")
		}
		// Pages overlap, so that one that is deleted meanwhile hides none.
		offset += max(len(page.Consumers)*3/4, 1)
	}
	return floor, nil
}

// ask calls the server's API.
func (e *Engine) ask(ctx context.Context, call string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	data, err := e.attempt(ctx, &nats.Msg{Subject: "$JS.API." + call, Data: body})
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
	}
	return json.Unmarshal(data, answer)
}
