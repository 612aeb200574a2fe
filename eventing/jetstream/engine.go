package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	api "github.com/nats-io/nats.go/jetstream"

	"ebb.dev/ebb/eventing/engine"
)

// Options say which servers and how to behave.
type Options struct {
	URL string // nats://HOST:PORT or tls://…, several with commas between

	// What the server knows the client by; all of them may be left out.
	CredentialsFile string // a NATS .creds file
	User, Password  string
	TLS             *tls.Config

	Name     string        // of the connection, for those who look at the server
	Patience time.Duration // how long a call waits for a server that is away; default 2 s
	// Outstanding bounds the publishes that have no answer yet; default 4096.
	Outstanding int
	Logger      *slog.Logger // default: none
}

// Engine is an engine.Engine on JetStream.
type Engine struct {
	o        Options
	nc       *nats.Conn
	js       api.JetStream
	requests *requests
	slots    chan struct{} // one per publish without an answer
	topics   sync.Map      // topic name -> *topic

	mu        sync.Mutex
	connected chan struct{} // closed while there is a connection
	consumers map[*consumer]struct{}
	closed    bool
	done      chan struct{}
}

var _ engine.Engine = (*Engine)(nil)

// Open makes an engine. It does not wait for a server: Ready says whether there is one, and a
// connection that is lost is made anew for as long as the engine is open.
func Open(o Options) (*Engine, error) {
	if o.Patience == 0 {
		o.Patience = 2 * time.Second
	}
	if o.Outstanding == 0 {
		o.Outstanding = 4096
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		o: o, slots: make(chan struct{}, o.Outstanding), connected: make(chan struct{}),
		consumers: map[*consumer]struct{}{}, done: make(chan struct{}),
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(-1), // whoever asks while there is no server hears of it at once
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		nats.ConnectHandler(func(*nats.Conn) { e.up() }),
		nats.ReconnectHandler(func(*nats.Conn) { e.up() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { e.down(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			o.Logger.Warn("NATS", "error", err)
		}),
	}
	if o.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(o.CredentialsFile))
	}
	if o.User != "" {
		options = append(options, nats.UserInfo(o.User, o.Password))
	}
	if o.TLS != nil {
		options = append(options, nats.Secure(o.TLS))
	}
	var err error
	if e.nc, err = nats.Connect(o.URL, options...); err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", redacted(o.URL), err)
	}
	if e.requests, err = newRequests(e.nc); err != nil {
		e.nc.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w", redacted(o.URL), err)
	}
	if e.js, err = api.New(e.nc); err != nil {
		e.nc.Close()
		return nil, err
	}
	if e.nc.IsConnected() {
		e.up()
	}
	return e, nil
}

// reconnectDelay grows from 50 ms to 2 s, and is spread so that the clients of a server that
// comes back do not come at once. It is asked when every server was tried.
func reconnectDelay(attempts int) time.Duration {
	longest := min(50*time.Millisecond<<min(attempts, 6), 2*time.Second)
	return longest/2 + rand.N(longest/2)
}

func (e *Engine) up() {
	e.mu.Lock()
	select {
	case <-e.connected:
	default:
		close(e.connected)
	}
	all := make([]*consumer, 0, len(e.consumers))
	for c := range e.consumers {
		all = append(all, c)
	}
	e.mu.Unlock()
	for _, c := range all {
		c.restart()
	}
}

func (e *Engine) down(err error) {
	e.mu.Lock()
	select {
	case <-e.connected:
		if !e.closed {
			e.connected = make(chan struct{})
		}
	default:
	}
	closed := e.closed
	e.mu.Unlock()
	e.requests.fail(errLost)
	if !closed {
		e.o.Logger.Warn("lost the connection to NATS", "error", err)
	}
}

// await waits until there is a connection, at most for the rest of the patience.
func (e *Engine) await(ctx context.Context, until time.Time) error {
	e.mu.Lock()
	connected := e.connected
	e.mu.Unlock()
	select {
	case <-connected:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-connected:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: no connection to NATS", engine.ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
		return fmt.Errorf("%w: the engine is closed", engine.ErrUnavailable)
	}
}

// manage calls what talks to the server's API until it has an answer or patience ends, and maps its errors.
func (e *Engine) manage(ctx context.Context, call func(context.Context) error) error {
	until := time.Now().Add(e.o.Patience)
	for {
		if err := e.await(ctx, until); err != nil {
			return err
		}
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := call(one)
		cancel()
		if err = mapped(err); !errors.Is(err, engine.ErrUnavailable) || time.Now().After(until) || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// mapped gives the errors of NATS that callers decide on their names here.
func mapped(err error) error {
	var refused *api.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refusal(int(refused.ErrorCode), refused.Code, refused.Description)
	case errors.Is(err, api.ErrStreamNotFound):
		return engine.ErrNoTopic
	case errors.Is(err, api.ErrConsumerNotFound), errors.Is(err, api.ErrConsumerDoesNotExist):
		return engine.ErrNoSubscription
	case errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
}

// Error codes of the JetStream API.
const (
	codeConsumerNotFound     = 10014
	codeNoResources          = 10023
	codeStorageExceeded      = 10047
	codeMessageTooLarge      = 10054
	codeStreamNotFound       = 10059
	codeStoreFailed          = 10077
	codeHeaderTooLarge       = 10097
	codeConsumerDoesNotExist = 10149
)

func refusal(code, status int, text string) error {
	switch code {
	case codeStreamNotFound:
		return engine.ErrNoTopic
	case codeConsumerNotFound, codeConsumerDoesNotExist:
		return engine.ErrNoSubscription
	case codeMessageTooLarge, codeHeaderTooLarge:
		return engine.ErrTooLarge
	case codeNoResources, codeStorageExceeded:
		return fmt.Errorf("%w: %s", engine.ErrFull, text)
	case codeStoreFailed:
		switch text {
		case "maximum messages exceeded", "maximum bytes exceeded", "maximum messages per subject exceeded":
			return fmt.Errorf("%w: %s", engine.ErrFull, text)
		case "message too large":
			return engine.ErrTooLarge
		}
	}
	if status >= 500 {
		return fmt.Errorf("%w: %s (%d)", engine.ErrUnavailable, text, code)
	}
	return fmt.Errorf("refused by NATS: %s (%d)", text, code)
}

// Ready is nil when JetStream answers.
func (e *Engine) Ready(ctx context.Context) error {
	if !e.nc.IsConnected() {
		err := e.nc.LastError()
		if err == nil {
			err = errors.New("not connected")
		}
		return fmt.Errorf("%w: NATS at %s: %w", engine.ErrUnavailable, redacted(e.o.URL), err)
	}
	_, err := e.js.AccountInfo(ctx)
	return mapped(err)
}

// Close ends consumers and tails and lets go of the connection.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.done)
	all := make([]*consumer, 0, len(e.consumers))
	for c := range e.consumers {
		all = append(all, c)
	}
	e.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	e.topics.Range(func(_, t any) bool { t.(*topic).stop(); return true })
	_ = e.nc.FlushTimeout(time.Second) // what the consumers gave back
	e.requests.fail(errClosed)
	e.nc.Close()
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
