package user

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

const latest = "@latest"

// TrafficChange is what `ebb traffic` is asked for.
type TrafficChange struct {
	Split    []Percent // empty: percents stay
	Tags     [][2]string
	Untag    []string
	ToLatest bool
	Rollback bool
}

// Percent of the traffic for a revision, or for @latest.
type Percent struct {
	Revision string
	Percent  int64 // 0..100
}

// TrafficCommand is `ebb traffic`.
func TrafficCommand() *cobra.Command {
	var f Flags
	var change TrafficChange
	var tags []string
	var waitReady bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "traffic NAME [REVISION=PERCENT…]",
		Short: "Show or change which revisions serve, in percent",
		Long: "Without a change: show the traffic. REVISION may be @latest, which follows new revisions. One percent may be left out: it gets what remains.\n" +
			"--rollback gives all traffic to the revision before the newest one that serves.",
		Example: "  ebb traffic hello hello-00001=90 hello-00002=10\n  ebb traffic hello @latest=10 hello-00001\n" +
			"  ebb traffic hello --rollback\n  ebb traffic hello --tag hello-00002=next\n  ebb traffic hello --to-latest",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: f.completeTraffic,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if change.Split, err = parseSplit(args[1:]); err != nil {
				return err
			}
			for _, t := range tags {
				revision, tag, ok := strings.Cut(t, "=")
				if !ok || revision == "" || tag == "" {
					return fmt.Errorf("--tag %q is not REVISION=TAG", t)
				}
				change.Tags = append(change.Tags, [2]string{revision, tag})
			}
			if err := change.check(); err != nil {
				return err
			}
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if change.empty() {
				svc, err := s.service(ctx, args[0])
				if err != nil {
					return err
				}
				return s.printTraffic(svc)
			}
			svc, changed, err := s.ChangeTraffic(ctx, args[0], change)
			if err != nil {
				return err
			}
			if !changed {
				fmt.Fprintf(s.Err, "Traffic of %s is that already\n", svc.Name)
			}
			if waitReady {
				ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the change of %s is not in effect after %s: `ebb describe %s` shows why", svc.Name, timeout, svc.Name))
				defer cancel()
				if svc, err = s.AwaitReady(ctx, svc, func(string) {}); err != nil {
					return err
				}
			}
			return s.printTraffic(svc)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	p := cmd.Flags()
	p.StringArrayVar(&tags, "tag", nil, "`REVISION=TAG` gives a revision an address of its own; may be repeated")
	p.StringArrayVar(&change.Untag, "untag", nil, "`TAG` to remove; may be repeated")
	p.BoolVar(&change.ToLatest, "to-latest", false, "all traffic to the latest ready revision, now and after each change")
	p.BoolVar(&change.Rollback, "rollback", false, "all traffic to the revision before the newest one that serves")
	p.BoolVar(&waitReady, "wait", true, "wait until every gateway has the change")
	p.DurationVar(&timeout, "wait-timeout", time.Minute, "how long to wait")
	return cmd
}

func (c TrafficChange) empty() bool {
	return len(c.Split) == 0 && len(c.Tags) == 0 && len(c.Untag) == 0 && !c.ToLatest && !c.Rollback
}

func (c TrafficChange) check() error {
	ways := 0
	for _, used := range []bool{len(c.Split) > 0, c.ToLatest, c.Rollback} {
		if used {
			ways++
		}
	}
	if ways > 1 {
		return errors.New("REVISION=PERCENT, --to-latest and --rollback exclude each other: give one")
	}
	return nil
}

// parseSplit reads REVISION=PERCENT arguments; one may be without a percent.
func parseSplit(args []string) ([]Percent, error) {
	var split []Percent
	sum, open := int64(0), -1
	for _, arg := range args {
		revision, text, given := strings.Cut(arg, "=")
		if revision == "" {
			return nil, fmt.Errorf("%q is not REVISION=PERCENT", arg)
		}
		if slices.ContainsFunc(split, func(p Percent) bool { return p.Revision == revision }) {
			return nil, fmt.Errorf("%s is named twice", revision)
		}
		if !given {
			if open >= 0 {
				return nil, fmt.Errorf("%s and %s have no percent: one may be left out", split[open].Revision, revision)
			}
			open = len(split)
			split = append(split, Percent{Revision: revision})
			continue
		}
		percent, err := strconv.ParseInt(strings.TrimSuffix(text, "%"), 10, 64)
		if err != nil || percent < 0 || percent > 100 {
			return nil, fmt.Errorf("%q: the percent is a whole number from 0 to 100", arg)
		}
		sum += percent
		split = append(split, Percent{revision, percent})
	}
	switch {
	case open >= 0 && sum <= 100:
		split[open].Percent = 100 - sum
	case len(split) > 0 && sum != 100:
		return nil, fmt.Errorf("the percents add up to %d, not 100", sum)
	}
	return split, nil
}

// ChangeTraffic changes spec.traffic; changed is false when it was so already.
func (s *Session) ChangeTraffic(ctx context.Context, name string, change TrafficChange) (svc *v1.Service, changed bool, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if svc, err = s.service(ctx, name); err != nil {
			return err
		}
		revisions, err := s.revisionsOf(ctx, name)
		if err != nil {
			return err
		}
		next, err := change.apply(svc, revisions)
		if err != nil {
			return err
		}
		if changed = !equality.Semantic.DeepEqual(svc.Spec.Traffic, next); !changed {
			return nil
		}
		svc.Spec.Traffic = next
		return s.Update(ctx, svc)
	})
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		err = s.explain(err, fmt.Sprintf("traffic of service %q", name))
	}
	if err != nil {
		return nil, false, err
	}
	return svc, changed, nil
}

// apply computes the new spec.traffic. revisions are the service's, newest first.
func (c TrafficChange) apply(svc *v1.Service, revisions []v1.Revision) ([]v1.TrafficTarget, error) {
	known := func(name string) error {
		if name == latest || slices.ContainsFunc(revisions, func(r v1.Revision) bool { return r.Name == name }) {
			return nil
		}
		var names []string
		for _, r := range revisions {
			names = append(names, r.Name)
		}
		return fmt.Errorf("service %s has no revision %q; it has %s", svc.Name, name, strings.Join(names, ", "))
	}
	next := slices.Clone(svc.Spec.Traffic)
	if len(next) == 0 {
		next = []v1.TrafficTarget{target(latest, 100)}
	}
	split := c.Split
	switch {
	case c.ToLatest:
		split = []Percent{{latest, 100}}
	case c.Rollback:
		to, err := rollbackTo(svc, revisions)
		if err != nil {
			return nil, err
		}
		split = []Percent{{to, 100}}
	}
	if len(split) > 0 {
		// Tags stay where they are.
		tagged := slices.DeleteFunc(next, func(t v1.TrafficTarget) bool { return t.Tag == "" })
		for i := range tagged {
			tagged[i].Percent = new(int64(0))
		}
		next = nil
		for _, p := range split {
			if err := known(p.Revision); err != nil {
				return nil, err
			}
			next = append(next, target(p.Revision, p.Percent))
		}
		next = append(next, tagged...)
	}
	for _, tag := range c.Untag {
		i := slices.IndexFunc(next, func(t v1.TrafficTarget) bool { return t.Tag == tag })
		if i < 0 {
			return nil, fmt.Errorf("service %s has no tag %q", svc.Name, tag)
		}
		next[i].Tag = ""
	}
	for _, t := range c.Tags {
		if err := known(t[0]); err != nil {
			return nil, err
		}
		for i := range next { // a tag is at one place
			if next[i].Tag == t[1] {
				next[i].Tag = ""
			}
		}
		tagged := target(t[0], 0)
		tagged.Tag = t[1]
		next = append(next, tagged)
	}
	return slices.DeleteFunc(next, func(t v1.TrafficTarget) bool { // says nothing any more
		return t.Tag == "" && (t.Percent == nil || *t.Percent == 0)
	}), nil
}

func target(revision string, percent int64) v1.TrafficTarget {
	follows := revision == latest
	t := v1.TrafficTarget{LatestRevision: &follows, Percent: &percent}
	if !follows {
		t.RevisionName = revision
	}
	return t
}

// tagLatest gives the latest revision a tag, as a target of its own.
func tagLatest(traffic []v1.TrafficTarget, tag string) []v1.TrafficTarget {
	next := slices.Clone(traffic)
	if len(next) == 0 {
		next = []v1.TrafficTarget{target(latest, 100)}
	}
	next = slices.DeleteFunc(next, func(t v1.TrafficTarget) bool { return t.Tag == tag && (t.Percent == nil || *t.Percent == 0) })
	for i := range next {
		if next[i].Tag == tag {
			next[i].Tag = ""
		}
	}
	tagged := target(latest, 0)
	tagged.Tag = tag
	return append(next, tagged)
}

// rollbackTo is the newest ready revision that is older than the newest one with traffic.
func rollbackTo(svc *v1.Service, revisions []v1.Revision) (string, error) {
	serving := shares(svc.Status.Traffic)
	i := slices.IndexFunc(revisions, func(r v1.Revision) bool { return serving[r.Name].percent > 0 })
	if i < 0 {
		return "", fmt.Errorf("no revision of %s serves now: choose one with `ebb traffic %s REVISION=100`", svc.Name, svc.Name)
	}
	for _, r := range revisions[i+1:] {
		if r.Status.Conditions.Get(v1.ConditionReady).IsTrue() {
			return r.Name, nil
		}
	}
	return "", fmt.Errorf("%s is the oldest ready revision of %s: there is nothing to roll back to", revisions[i].Name, svc.Name)
}

func (s *Session) printTraffic(svc *v1.Service) error {
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, svc)
	case output.Name:
		_, err := fmt.Fprintf(s.Out, "service.serving.knative.dev/%s\n", svc.Name)
		return err
	}
	return output.WriteTable(s.Out, s.Format, []output.Column[v1.TrafficTarget]{
		{Title: "REVISION", Value: func(t v1.TrafficTarget) string {
			if t.LatestRevision != nil && *t.LatestRevision {
				return t.RevisionName + " (" + latest + ")"
			}
			return t.RevisionName
		}},
		{Title: "PERCENT", Value: func(t v1.TrafficTarget) string {
			if t.Percent == nil {
				return "0%"
			}
			return fmt.Sprintf("%d%%", *t.Percent)
		}},
		{Title: "TAG", Value: func(t v1.TrafficTarget) string { return t.Tag }},
		{Title: "URL", Value: func(t v1.TrafficTarget) string {
			if t.URL == "" && t.Tag == "" {
				return svc.Status.URL
			}
			return t.URL
		}},
	}, svc.Status.Traffic)
}
