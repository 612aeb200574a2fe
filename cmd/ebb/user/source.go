package user

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/eventing"
	v1 "ebb.dev/ebb/apis/serving/v1"
	sourcesv1 "ebb.dev/ebb/apis/sources/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

func pings() *eventKind[sourcesv1.PingSource] {
	return &eventKind[sourcesv1.PingSource]{
		noun: "source ping", resource: "pingsource." + eventing.SourcesGroupName, make: "ebb source ping create NAME --schedule '* * * * *' --sink ksvc:SERVICE",
		object: func(p *sourcesv1.PingSource) client.Object { return p },
		list:   func() client.ObjectList { return &sourcesv1.PingSourceList{} },
		items:  func(l client.ObjectList) []sourcesv1.PingSource { return l.(*sourcesv1.PingSourceList).Items },
		status: func(p *sourcesv1.PingSource) *v1.Status { return &p.Status.Status },
		columns: []output.Column[sourcesv1.PingSource]{
			{Title: "SCHEDULE", Value: func(p sourcesv1.PingSource) string { return strings.TrimSpace(p.Spec.Schedule + " " + p.Spec.Timezone) }},
			{Title: "SINK", Value: func(p sourcesv1.PingSource) string { return sinkText(&p.Spec.Sink) }},
			{Title: "URL", Wide: true, Value: func(p sourcesv1.PingSource) string { return p.Status.SinkURI }},
		},
		fields: func(p *sourcesv1.PingSource) [][2]string {
			return [][2]string{
				{"Schedule", p.Spec.Schedule}, {"Time zone", p.Spec.Timezone}, {"Sink", sinkText(&p.Spec.Sink)}, {"Sink's URL", p.Status.SinkURI},
				{"Data", output.OneLine(p.Spec.Data)}, {"Content type", p.Spec.ContentType},
			}
		},
	}
}

func apiServers() *eventKind[sourcesv1.ApiServerSource] {
	return &eventKind[sourcesv1.ApiServerSource]{
		noun: "source apiserver", resource: "apiserversource." + eventing.SourcesGroupName, make: "ebb source apiserver create NAME --resource v1:Pod --service-account ACCOUNT --sink ksvc:SERVICE",
		object: func(a *sourcesv1.ApiServerSource) client.Object { return a },
		list:   func() client.ObjectList { return &sourcesv1.ApiServerSourceList{} },
		items:  func(l client.ObjectList) []sourcesv1.ApiServerSource { return l.(*sourcesv1.ApiServerSourceList).Items },
		status: func(a *sourcesv1.ApiServerSource) *v1.Status { return &a.Status.Status },
		columns: []output.Column[sourcesv1.ApiServerSource]{
			{Title: "RESOURCES", Value: func(a sourcesv1.ApiServerSource) string { return resourcesText(&a) }},
			{Title: "SINK", Value: func(a sourcesv1.ApiServerSource) string { return sinkText(&a.Spec.Sink) }},
			{Title: "URL", Wide: true, Value: func(a sourcesv1.ApiServerSource) string { return a.Status.SinkURI }},
		},
		fields: func(a *sourcesv1.ApiServerSource) [][2]string {
			return [][2]string{
				{"Resources", resourcesText(a)}, {"Mode", a.Spec.EventMode}, {"Service account", a.Spec.ServiceAccountName},
				{"Sink", sinkText(&a.Spec.Sink)}, {"Sink's URL", a.Status.SinkURI},
			}
		},
	}
}

func resourcesText(a *sourcesv1.ApiServerSource) string {
	var parts []string
	for _, r := range a.Spec.Resources {
		parts = append(parts, r.APIVersion+":"+r.Kind)
	}
	return strings.Join(parts, ",")
}

// SourceCommand is `ebb source`.
func SourceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "source", Aliases: []string{"sources"}, Short: "Make, list and delete sources of events: a clock, and the objects of the API server", Args: cobra.NoArgs, RunE: showHelp}
	ping := &cobra.Command{Use: "ping", Short: "Sources that send an event by a clock", Args: cobra.NoArgs, RunE: showHelp}
	p := pings()
	ping.AddCommand(pingCreate(p), p.listCommand(), p.describeCommand(), p.deleteCommand())
	server := &cobra.Command{Use: "apiserver", Short: "Sources that send an event for each change of objects", Args: cobra.NoArgs, RunE: showHelp}
	a := apiServers()
	server.AddCommand(apiServerCreate(a), a.listCommand(), a.describeCommand(), a.deleteCommand())
	cmd.AddCommand(ping, server)
	return cmd
}

func pingCreate(k *eventKind[sourcesv1.PingSource]) *cobra.Command {
	var f Flags
	var p sourcesv1.PingSourceSpec
	var sink string
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "create NAME --sink SINK", Short: "Make a source that sends an event by a clock", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  ebb source ping create nightly --schedule '0 3 * * *' --timezone Europe/Berlin --sink broker:default\n  ebb source ping create tick --schedule '@every 10s' --payload '{\"n\": 1}' --sink ksvc:hello",
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := parseSink(sink)
			if err != nil {
				return fmt.Errorf("--sink %w", err)
			}
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			o := &sourcesv1.PingSource{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: args[0]}, Spec: p}
			o.Spec.Sink = *to
			if o.Spec.Data == "" {
				o.Spec.ContentType = ""
			}
			return k.create(cmd.Context(), s, o, wait)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	q := cmd.Flags()
	q.StringVar(&p.Schedule, "schedule", sourcesv1.DefaultSchedule, "`CRON`: five fields, or six with seconds first, or like '@every 30s'")
	q.StringVar(&p.Timezone, "timezone", "", "`ZONE` of the schedule, like Europe/Berlin (default UTC)")
	q.StringVarP(&p.Data, "payload", "d", "", "`DATA` of the events")
	q.StringVar(&p.ContentType, "content-type", "application/json", "`TYPE` of the data")
	q.StringVarP(&sink, "sink", "s", "", sinkUsage)
	readyWait(cmd, &wait)
	_ = cmd.MarkFlagRequired("sink")
	return cmd
}

func apiServerCreate(k *eventKind[sourcesv1.ApiServerSource]) *cobra.Command {
	var f Flags
	var a sourcesv1.ApiServerSourceSpec
	var resources []string
	var sink string
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "create NAME --resource APIVERSION:KIND --sink SINK", Short: "Make a source that sends an event for each change of objects", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  ebb source apiserver create pods --resource v1:Pod --service-account watcher --sink broker:default",
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := parseSink(sink)
			if err != nil {
				return fmt.Errorf("--sink %w", err)
			}
			if len(resources) == 0 {
				return errors.New("--resource is missing: a kind of objects, like --resource v1:Pod")
			}
			for _, text := range resources {
				version, kind, ok := strings.Cut(text, ":")
				if !ok || version == "" || kind == "" {
					return fmt.Errorf("--resource %q is not APIVERSION:KIND, like v1:Pod or apps/v1:Deployment", text)
				}
				a.Resources = append(a.Resources, sourcesv1.APIVersionKindSelector{APIVersion: version, Kind: kind})
			}
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			o := &sourcesv1.ApiServerSource{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: args[0]}, Spec: a}
			o.Spec.Sink = *to
			return k.create(cmd.Context(), s, o, wait)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	q := cmd.Flags()
	q.StringArrayVar(&resources, "resource", nil, "`APIVERSION:KIND` of the objects, like v1:Pod; may be given again")
	q.StringVar(&a.EventMode, "mode", "Reference", "what is in an event: Reference or Resource")
	q.StringVar(&a.ServiceAccountName, "service-account", "", "`ACCOUNT` of the namespace whose permissions count (default \"default\")")
	q.StringVarP(&sink, "sink", "s", "", sinkUsage)
	readyWait(cmd, &wait)
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"Reference", "Resource"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
