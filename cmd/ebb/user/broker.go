package user

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

func brokers() *eventKind[eventingv1.Broker] {
	return &eventKind[eventingv1.Broker]{
		noun: "broker", resource: "broker." + eventing.GroupName, make: "ebb broker create default",
		object: func(b *eventingv1.Broker) client.Object { return b },
		list:   func() client.ObjectList { return &eventingv1.BrokerList{} },
		items:  func(l client.ObjectList) []eventingv1.Broker { return l.(*eventingv1.BrokerList).Items },
		status: func(b *eventingv1.Broker) *v1.Status { return &b.Status.Status },
		columns: []output.Column[eventingv1.Broker]{
			{Title: "URL", Value: func(b eventingv1.Broker) string { return addressOf(b.Status.Address) }},
			{Title: "DEAD LETTERS", Wide: true, Value: func(b eventingv1.Broker) string { return deadLettersOf(b.Spec.Delivery, b.Status.DeadLetterSinkURI) }},
		},
		fields: func(b *eventingv1.Broker) [][2]string {
			return append([][2]string{{"URL", addressOf(b.Status.Address)}}, deliveryFields(b.Spec.Delivery, b.Status.DeadLetterSinkURI)...)
		},
		more: triggersOf,
	}
}

// triggersOf prints the Triggers of a Broker.
func triggersOf(ctx context.Context, s *Session, b *eventingv1.Broker) error {
	var list eventingv1.TriggerList
	if err := s.List(ctx, &list, inNamespace(s)); err != nil {
		return s.explain(err, "list triggers")
	}
	var own []eventingv1.Trigger
	for i := range list.Items {
		if list.Items[i].Spec.Broker == b.Name {
			own = append(own, list.Items[i])
		}
	}
	if len(own) == 0 {
		fmt.Fprintf(s.Out, "\nNo triggers: its events go nowhere. Make one: ebb trigger create NAME --broker %s --sink ksvc:SERVICE\n", b.Name)
		return nil
	}
	fmt.Fprintln(s.Out)
	list.Items = own
	return triggers().print(s, &list, false, time.Now())
}

func addressOf(a *v1.Addressable) string {
	if a == nil {
		return ""
	}
	return a.URL
}

func deadLettersOf(d *duck.DeliverySpec, uri string) string {
	if d == nil || d.DeadLetterSink.Empty() {
		return "kept"
	}
	return cmp.Or(uri, sinkText(d.DeadLetterSink))
}

// deliveryFields are the lines of a description.
func deliveryFields(d *duck.DeliverySpec, uri string) [][2]string {
	fields := [][2]string{{"Dead letters", deadLettersOf(d, uri)}}
	if d == nil {
		return fields
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	retries := ""
	if d.Retry != nil {
		retries = strconv.Itoa(int(*d.Retry))
	}
	return append(fields, [][2]string{
		{"Retries", retries},
		{"Back-off", text(d.BackoffPolicy)},
		{"Back-off delay", text(d.BackoffDelay)},
		{"Timeout", text(d.Timeout)},
		{"Retry-After at most", text(d.RetryAfterMax)},
		{"Format", text(d.Format)},
	}...)
}

// deliveryFlags are flags of a DeliverySpec.
type deliveryFlags struct {
	retry                  int32
	policy, delay, timeout string
	deadLetterSink         string
}

func (d *deliveryFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int32Var(&d.retry, "retry", 0, "how often an event is tried again (else by the settings)")
	f.StringVar(&d.policy, "backoff-policy", "", "exponential or linear")
	f.StringVar(&d.delay, "backoff-delay", "", "`DURATION` of ISO 8601 before it is tried again, like PT0.2S")
	f.StringVar(&d.timeout, "timeout", "", "`DURATION` of ISO 8601 that one attempt may take, like PT30S")
	f.StringVar(&d.deadLetterSink, "dead-letter-sink", "", "`SINK` for what cannot be delivered, as with --sink of a trigger; without one it is kept: ebb events dead-letters")
	_ = cmd.RegisterFlagCompletionFunc("backoff-policy", cobra.FixedCompletions([]string{duck.BackoffExponential, duck.BackoffLinear}, cobra.ShellCompDirectiveNoFileComp))
}

// into changes what the flags name.
func (d *deliveryFlags) into(cmd *cobra.Command, spec **duck.DeliverySpec) error {
	at := func() *duck.DeliverySpec {
		if *spec == nil {
			*spec = &duck.DeliverySpec{}
		}
		return *spec
	}
	changed := cmd.Flags().Changed
	if changed("retry") {
		at().Retry = &d.retry
	}
	for name, to := range map[string]struct {
		value string
		into  func(*duck.DeliverySpec) **string
	}{
		"backoff-policy": {d.policy, func(s *duck.DeliverySpec) **string { return &s.BackoffPolicy }},
		"backoff-delay":  {d.delay, func(s *duck.DeliverySpec) **string { return &s.BackoffDelay }},
		"timeout":        {d.timeout, func(s *duck.DeliverySpec) **string { return &s.Timeout }},
	} {
		if changed(name) {
			*to.into(at()) = nil
			if to.value != "" {
				*to.into(at()) = &to.value
			}
		}
	}
	if changed("dead-letter-sink") {
		at().DeadLetterSink = nil
		if d.deadLetterSink != "" {
			sink, err := parseSink(d.deadLetterSink)
			if err != nil {
				return fmt.Errorf("--dead-letter-sink %w", err)
			}
			at().DeadLetterSink = sink
		}
	}
	return nil
}

// BrokerCommand is `ebb broker`.
func BrokerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "broker", Aliases: []string{"brokers"}, Short: "Make, list and delete brokers, which take events and keep them for their triggers", Args: cobra.NoArgs, RunE: showHelp}
	var f Flags
	var d deliveryFlags
	var wait time.Duration
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a broker", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  ebb broker create default\n  ebb broker create orders --retry 5 --dead-letter-sink ksvc:failed",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			b := &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: args[0]}}
			if err := d.into(cmd, &b.Spec.Delivery); err != nil {
				return err
			}
			return brokers().create(cmd.Context(), s, b, wait)
		},
	}
	f.Add(create)
	f.AddOutput(create)
	d.add(create)
	readyWait(create, &wait)
	k := brokers()
	cmd.AddCommand(create, k.listCommand(), k.describeCommand(), k.deleteCommand())
	return cmd
}
