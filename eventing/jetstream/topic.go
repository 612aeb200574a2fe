package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
)

// What a topic gets that does not say.
const (
	defaultMaxBytes      = 1 << 30
	defaultMaxEventBytes = 1<<20 + 1<<16 // data of 1 MiB, and the attributes
	defaultDuplicates    = 2 * time.Minute
)

// topic is what this engine knows of one, to publish into it.
type topic struct {
	e                     *Engine
	name, stream, subject string

	mu    sync.Mutex
	trims trims
}

func (e *Engine) topic(name string) *topic {
	if t, ok := e.topics.Load(name); ok {
		return t.(*topic)
	}
	t, _ := e.topics.LoadOrStore(name, &topic{e: e, name: name, stream: streamName(name), subject: subjectName(name)})
	return t.(*topic)
}

// PutTopic makes a stream, or gives one that is there these limits.
func (e *Engine) PutTopic(ctx context.Context, t engine.Topic) error {
	if t.Name == "" {
		return errors.New("a topic needs a name")
	}
	want := streamConfig(t)
	err := e.manage(ctx, func(ctx context.Context) error {
		have, err := e.js.Stream(ctx, want.Name)
		if errors.Is(err, api.ErrStreamNotFound) {
			_, err = e.js.CreateStream(ctx, want)
			if errors.Is(err, api.ErrStreamNameAlreadyInUse) { // made by another engine meanwhile
				_, err = e.js.UpdateStream(ctx, want)
			}
			return err
		}
		if err != nil {
			return err
		}
		config := have.CachedInfo().Config
		if same(config, want) {
			return nil
		}
		// What somebody else has set on the stream (placement, compression) stays.
		config.MaxBytes, config.MaxMsgs, config.MaxMsgSize = want.MaxBytes, want.MaxMsgs, want.MaxMsgSize
		config.MaxAge, config.Duplicates, config.Replicas = want.MaxAge, want.Duplicates, want.Replicas
		config.Metadata = merged(config.Metadata, want.Metadata)
		_, err = e.js.UpdateStream(ctx, config)
		return err
	})
	if err != nil {
		return fmt.Errorf("topic %s: %w", t.Name, err)
	}
	return nil
}

func streamConfig(t engine.Topic) api.StreamConfig {
	c := api.StreamConfig{
		Name: streamName(t.Name), Subjects: []string{subjectName(t.Name)},
		Metadata:  map[string]string{nameMeta: t.Name, keepAllMeta: fmt.Sprint(t.KeepAll)},
		Retention: api.LimitsPolicy, Discard: api.DiscardNew, Storage: api.FileStorage,
		MaxBytes: t.MaxBytes, MaxMsgs: t.MaxEvents, MaxMsgSize: t.MaxEventBytes,
		MaxAge: t.MaxAge, Duplicates: t.Duplicates, Replicas: max(t.Replicas, 1),
		MaxConsumers: -1, MaxMsgsPerSubject: -1, AllowDirect: true,
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.MaxMsgs == 0 {
		c.MaxMsgs = -1
	}
	if c.MaxMsgSize == 0 {
		c.MaxMsgSize = defaultMaxEventBytes
	}
	if c.Duplicates == 0 {
		c.Duplicates = defaultDuplicates
	}
	if c.MaxAge > 0 {
		c.Duplicates = min(c.Duplicates, c.MaxAge) // the server insists
	}
	return c
}

// same is whether a stream has what this package sets and changes.
func same(have, want api.StreamConfig) bool {
	return have.MaxBytes == want.MaxBytes && have.MaxMsgs == want.MaxMsgs && have.MaxMsgSize == want.MaxMsgSize &&
		have.MaxAge == want.MaxAge && have.Duplicates == want.Duplicates && have.Replicas == want.Replicas &&
		maps.Equal(have.Metadata, merged(have.Metadata, want.Metadata))
}

func merged(have, want map[string]string) map[string]string {
	m := maps.Clone(have)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, want)
	return m
}

// DeleteTopic deletes the stream with its consumers.
func (e *Engine) DeleteTopic(ctx context.Context, name string) error {
	err := e.manage(ctx, func(ctx context.Context) error {
		err := e.js.DeleteStream(ctx, streamName(name))
		if errors.Is(err, api.ErrStreamNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("topic %s: %w", name, err)
	}
	if t, there := e.topics.LoadAndDelete(name); there {
		t.(*topic).stop()
	}
	return nil
}
