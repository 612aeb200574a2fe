package user

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	"ebb.dev/ebb/apis/eventing/duck"
	eventingv1 "ebb.dev/ebb/apis/eventing/v1"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

func triggers() *eventKind[eventingv1.Trigger] {
	return &eventKind[eventingv1.Trigger]{
		noun: "trigger", resource: "trigger." + eventing.GroupName, make: "ebb trigger create NAME --sink ksvc:SERVICE",
		object: func(t *eventingv1.Trigger) client.Object { return t },
		list:   func() client.ObjectList { return &eventingv1.TriggerList{} },
		items:  func(l client.ObjectList) []eventingv1.Trigger { return l.(*eventingv1.TriggerList).Items },
		status: func(t *eventingv1.Trigger) *v1.Status { return &t.Status.Status },
		columns: []output.Column[eventingv1.Trigger]{
			{Title: "BROKER", Value: func(t eventingv1.Trigger) string { return t.Spec.Broker }},
			{Title: "FILTER", Value: func(t eventingv1.Trigger) string { return filterText(&t) }},
			{Title: "SINK", Value: func(t eventingv1.Trigger) string { return sinkText(&t.Spec.Subscriber) }},
			{Title: "ORDER", Wide: true, Value: func(t eventingv1.Trigger) string { return orderText(&t) }},
			{Title: "URL", Wide: true, Value: func(t eventingv1.Trigger) string { return t.Status.SubscriberURI }},
		},
		fields: func(t *eventingv1.Trigger) [][2]string {
			return append([][2]string{
				{"Broker", t.Spec.Broker},
				{"Filter", filterText(t)},
				{"Sink", sinkText(&t.Spec.Subscriber)},
				{"Sink's URL", t.Status.SubscriberURI},
				{"Order", orderText(t)},
			}, deliveryFields(t.Spec.Delivery, t.Status.DeadLetterSinkURI)...)
		},
	}
}

// filterText is a filter in one line.
func filterText(t *eventingv1.Trigger) string {
	if len(t.Spec.Filters) > 0 {
		var parts []string
		for _, f := range t.Spec.Filters {
			switch {
			case f.CESQL != "":
				parts = append(parts, f.CESQL)
			case len(f.Exact) > 0:
				parts = append(parts, pairs(f.Exact))
			default:
				text, _ := json.Marshal(f)
				parts = append(parts, string(text))
			}
		}
		return strings.Join(parts, " AND ")
	}
	if t.Spec.Filter == nil || len(t.Spec.Filter.Attributes) == 0 {
		return "every event"
	}
	return pairs(t.Spec.Filter.Attributes)
}

func pairs(m map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+"="+m[name])
	}
	return strings.Join(parts, ",")
}

func orderText(t *eventingv1.Trigger) string {
	order := t.Annotations[eventing.DeliveryOrderAnnotation]
	if order != eventing.Ordered {
		return eventing.Unordered
	}
	if key := t.Annotations[eventing.PartitionKeyAnnotation]; key != "" {
		return order + " by " + key
	}
	return order
}

// triggerFlags are what a Trigger is made of.
type triggerFlags struct {
	filters      []string
	cesql, sink  string
	ordered      bool
	partitionKey string
	delivery     deliveryFlags
	wait         time.Duration
}

func (o *triggerFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "`ATTRIBUTE=VALUE` that events have to have; may be given again, all have to hold; an empty value is any value")
	f.StringVar(&o.cesql, "cesql", "", "`EXPRESSION` of CloudEvents SQL that has to hold, like \"type LIKE 'order.%'\"")
	f.StringVarP(&o.sink, "sink", "s", "", sinkUsage)
	f.BoolVar(&o.ordered, "ordered", false, "one at a time for each partition key, in the order of the broker")
	f.StringVar(&o.partitionKey, "partition-key", "", "`ATTRIBUTE` of the partition key with --ordered (default partitionkey, then the subject)")
	o.delivery.add(cmd)
	readyWait(cmd, &o.wait)
}

// into changes what the flags name.
func (o *triggerFlags) into(cmd *cobra.Command, t *eventingv1.Trigger) error {
	changed := cmd.Flags().Changed
	if changed("filter") || changed("cesql") {
		exact := map[string]string{}
		for _, term := range o.filters {
			name, value, ok := strings.Cut(term, "=")
			if !ok || name == "" {
				return fmt.Errorf("--filter %q is not ATTRIBUTE=VALUE", term)
			}
			if _, twice := exact[name]; twice {
				return fmt.Errorf("--filter: %s is given twice", name)
			}
			exact[name] = value
		}
		t.Spec.Filter, t.Spec.Filters = nil, nil
		if o.cesql == "" && len(exact) > 0 {
			t.Spec.Filter = &eventingv1.TriggerFilter{Attributes: exact}
		} else if o.cesql != "" {
			if len(exact) > 0 {
				t.Spec.Filters = append(t.Spec.Filters, duck.SubscriptionsAPIFilter{Exact: exact})
			}
			t.Spec.Filters = append(t.Spec.Filters, duck.SubscriptionsAPIFilter{CESQL: o.cesql})
		}
	}
	if changed("sink") {
		sink, err := parseSink(o.sink)
		if err != nil {
			return fmt.Errorf("--sink %w", err)
		}
		t.Spec.Subscriber = *sink
	}
	annotate := func(key, value string, set bool) {
		if !set {
			delete(t.Annotations, key)
			return
		}
		if t.Annotations == nil {
			t.Annotations = map[string]string{}
		}
		t.Annotations[key] = value
	}
	if changed("ordered") {
		annotate(eventing.DeliveryOrderAnnotation, eventing.Ordered, o.ordered)
	}
	if changed("partition-key") {
		annotate(eventing.PartitionKeyAnnotation, o.partitionKey, o.partitionKey != "")
	}
	return o.delivery.into(cmd, &t.Spec.Delivery)
}

// TriggerCommand is `ebb trigger`.
func TriggerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "trigger", Aliases: []string{"triggers"}, Short: "Make, change, list and delete triggers, which send a broker's events to a service", Args: cobra.NoArgs, RunE: showHelp}
	k := triggers()
	cmd.AddCommand(triggerCreate(k), k.listCommand(), k.describeCommand(), triggerUpdate(k), k.deleteCommand())
	return cmd
}

func triggerCreate(k *eventKind[eventingv1.Trigger]) *cobra.Command {
	var f Flags
	var o triggerFlags
	var broker string
	cmd := &cobra.Command{
		Use: "create NAME --sink SINK", Short: "Make a trigger", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  ebb trigger create orders --filter type=order --sink ksvc:shop\n" +
			"  ebb trigger create large --cesql \"type = 'order' AND amount > 100\" --sink ksvc:shop/large --ordered",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.sink == "" {
				return errors.New("--sink is missing: where the events go, like --sink ksvc:SERVICE")
			}
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			t := &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: args[0]}}
			t.Spec.Broker = broker
			if err := o.into(cmd, t); err != nil {
				return err
			}
			return k.create(cmd.Context(), s, t, o.wait)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	cmd.Flags().StringVar(&broker, "broker", eventingv1.DefaultBroker, "`NAME` of the broker, in the same namespace")
	o.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("broker", completeNames(&f, brokers()))
	return cmd
}

func triggerUpdate(k *eventKind[eventingv1.Trigger]) *cobra.Command {
	var f Flags
	var o triggerFlags
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a trigger's filter, sink, order or delivery; its place in the broker stays", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNames(&f, k),
		Example: "  ebb trigger update orders --filter type=order --filter region=eu\n  ebb trigger update orders --sink ksvc:shop-2",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			var t *eventingv1.Trigger
			err = retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
				if t, err = k.get(cmd.Context(), s, args[0]); err != nil {
					return err
				}
				if err := o.into(cmd, t); err != nil {
					return err
				}
				return s.Update(cmd.Context(), t)
			})
			if err != nil {
				return k.explain(s, err, fmt.Sprintf("trigger %q", args[0]))
			}
			return k.settle(cmd.Context(), s, t, "changed", o.wait)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	o.add(cmd)
	return cmd
}
