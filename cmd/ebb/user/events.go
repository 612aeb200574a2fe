package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"ebb.dev/ebb/apis/eventing"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	"ebb.dev/ebb/cmd/ebb/output"
	cloudevent "ebb.dev/ebb/eventing/event"
)

// EventsCommand is `ebb events`.
func EventsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "events", Aliases: []string{"event"}, Short: "Send events, watch them pass, and see to those that could not be delivered", Args: cobra.NoArgs, RunE: showHelp}
	dead := &cobra.Command{Use: "dead-letters", Aliases: []string{"dead-letter"}, Short: "List the events that could not be delivered and have no sink, and deliver them again", Args: cobra.NoArgs, RunE: showHelp}
	dead.AddCommand(deadLettersList(), deadLettersRedeliver())
	cmd.AddCommand(eventsSend(), eventsTail(), dead)
	return cmd
}

// sendOptions are the flags of `ebb events send`.
type sendOptions struct {
	kind, source, id, subject, contentType string
	data, dataFile                         string
	extensions                             []string
	wait                                   time.Duration
}

// maxSent bounds the data of an event that is sent, in bytes; the broker's own limit is most often lower.
const maxSent = 64 << 20

func eventsSend() *cobra.Command {
	var f Flags
	var o sendOptions
	cmd := &cobra.Command{
		Use: "send BROKER --type TYPE", Short: "Send an event to a broker", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNames(&f, brokers()),
		Example: "  ebb events send default --type order --payload '{\"amount\": 3}'\n  ebb events send default --type photo --payload-file cat.jpg --content-type image/jpeg --extension region=eu",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := o.event(cmd)
			if err != nil {
				return err
			}
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			return s.sendEvent(cmd.Context(), args[0], e, o.wait)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	p := cmd.Flags()
	p.StringVar(&o.kind, "type", "", "`TYPE` of the event, like order.created")
	p.StringVar(&o.source, "source", "/ebb/events/send", "`SOURCE` of the event, a URI or a path")
	p.StringVar(&o.id, "id", "", "`ID` of the event, a new one if not given; the broker keeps one source and id once within its duplicates-window")
	p.StringVar(&o.subject, "subject", "", "`SUBJECT` of the event")
	p.StringArrayVar(&o.extensions, "extension", nil, "`NAME=VALUE` of an attribute more; may be given again")
	p.StringVarP(&o.data, "payload", "d", "", "`DATA` of the event; \"-\" reads standard input")
	p.StringVar(&o.dataFile, "payload-file", "", "`FILE` with the data")
	p.StringVar(&o.contentType, "content-type", "application/json", "`TYPE` of the data")
	p.DurationVar(&o.wait, "wait", 30*time.Second, "how long the broker may take to be Ready and to take the event")
	_ = cmd.MarkFlagFilename("payload-file")
	cmd.MarkFlagsMutuallyExclusive("payload", "payload-file")
	return cmd
}

// event is what the flags say.
func (o *sendOptions) event(cmd *cobra.Command) (*cloudevent.Event, error) {
	if o.kind == "" {
		return nil, errors.New("--type is missing: what triggers filter by, like --type order.created")
	}
	if o.id == "" {
		o.id = uuid.NewString()
	}
	e := &cloudevent.Event{ID: o.id, Source: o.source, Type: o.kind, Subject: o.subject, Time: time.Now().UTC().Format(time.RFC3339Nano)}
	for _, text := range o.extensions {
		name, value, ok := strings.Cut(text, "=")
		if _, known := e.Get(name); !ok || name == "" || known {
			return nil, fmt.Errorf("--extension %q is not NAME=VALUE with a name of its own: lower-case letters and digits", text)
		}
		e.SetExtension(name, value)
	}
	from := io.Reader(strings.NewReader(o.data))
	switch {
	case o.dataFile != "":
		file, err := os.Open(o.dataFile)
		if err != nil {
			return nil, fmt.Errorf("--payload-file: %w", err)
		}
		defer file.Close()
		from = file
	case o.data == "-":
		from = cmd.InOrStdin()
	}
	data, err := io.ReadAll(io.LimitReader(from, maxSent+1))
	if err != nil {
		return nil, fmt.Errorf("read the data: %w", err)
	}
	if len(data) > maxSent {
		return nil, fmt.Errorf("the data is larger than %d bytes", maxSent)
	}
	if len(data) > 0 {
		e.Data, e.DataContentType = data, o.contentType
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

// sendEvent posts until the broker takes it; what is refused for good is an error at once.
func (s *Session) sendEvent(ctx context.Context, broker string, e *cloudevent.Event, wait time.Duration) error {
	k := brokers()
	b, err := k.get(ctx, s, broker)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if addressOf(b.Status.Address) == "" {
		if err := k.awaitReady(ctx, s, b, wait); err != nil {
			return fmt.Errorf("broker %q takes no events: %w", broker, err)
		}
	}
	address, closed, err := s.ingress(ctx, addressOf(b.Status.Address))
	if err != nil {
		return err
	}
	defer closed()
	for {
		refused, err := post(ctx, address, e)
		if err == nil {
			break
		}
		if refused {
			return fmt.Errorf("broker %q refuses the event: %w", broker, err)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("broker %q does not take the event: %w", broker, err)
		}
	}
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, e)
	case output.Name:
		fmt.Fprintln(s.Out, e.ID)
	default:
		fmt.Fprintf(s.Out, "event %q of type %s is stored in broker %q\n", e.ID, e.Type, broker)
	}
	return nil
}

// post is one attempt; refused says that another is no use.
func post(ctx context.Context, url string, e *cloudevent.Event) (refused bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(string(e.Data)))
	if err != nil {
		return true, err
	}
	e.ToHTTP(r.Header)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	switch {
	case response.StatusCode/100 == 2:
		return false, nil
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500 || response.StatusCode == http.StatusNotFound:
		return false, fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return true, fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
}

// topicOf is the name that a Broker's events have in the store.
func (s *Session) topicOf(ctx context.Context, broker string) (string, error) {
	b, err := brokers().get(ctx, s, broker)
	if err != nil {
		return "", err
	}
	topic := b.Status.Annotations[eventing.TopicAnnotation]
	if topic == "" {
		return "", fmt.Errorf("broker %q has no place in the store yet: %s; `ebb broker describe %s` shows it", broker, why(b.Status.Conditions.Get("Ready")), broker)
	}
	return topic, nil
}

// placeOf is the name that a Trigger has in the store.
func (s *Session) placeOf(ctx context.Context, broker, trigger string) (string, error) {
	if trigger == "" {
		return "", nil
	}
	t, err := triggers().get(ctx, s, trigger)
	if err != nil {
		return "", err
	}
	if t.Spec.Broker != broker {
		return "", fmt.Errorf("trigger %q is of broker %q, not of %q", trigger, t.Spec.Broker, broker)
	}
	return subscriptionName(t), nil
}

// subscriptionName is the one of a Trigger in the store.
func subscriptionName(t *eventingv1.Trigger) string { return string(t.UID) }

// oneLineOf data for a table.
func oneLineOf(e *cloudevent.Event) string {
	if len(e.Data) == 0 {
		return ""
	}
	text := string(e.Data[:min(len(e.Data), 400)])
	if strings.ContainsFunc(text, func(r rune) bool { return r == '\uFFFD' || r < ' ' && r != '\n' && r != '\t' && r != '\r' }) {
		return strconv.Itoa(len(e.Data)) + " bytes"
	}
	return output.OneLine(text)
}
