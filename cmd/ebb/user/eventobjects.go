package user

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/cmd/ebb/output"
)

// eventKind is what the commands of a kind of eventing have in common. *T is the object, L the list.
type eventKind[T any] struct {
	noun     string // as it is typed: trigger
	resource string // of `-o name`: trigger.eventing.knative.dev
	make     string // how one is made, for a list of none
	object   func(*T) client.Object
	list     func() client.ObjectList
	items    func(client.ObjectList) []T
	status   func(*T) *v1.Status
	columns  []output.Column[T]
	fields   func(*T) [][2]string
	more     func(context.Context, *Session, *T) error // at the end of a description; may be nil
}

// explain makes an error of an object one that says the next step.
func (k *eventKind[T]) explain(s *Session, err error, what string) error {
	switch {
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource"):
		return fmt.Errorf("this cluster does not serve %s: Ebb is not installed there", k.resource)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s is not in namespace %s: `ebb %s list` shows what is there (-n NAMESPACE for another one)", what, s.Namespace, k.noun)
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%s is there already: `ebb %s describe` shows it, `ebb %s delete` removes it", what, k.noun, k.noun)
	}
	return s.explain(err, what)
}

func (k *eventKind[T]) get(ctx context.Context, s *Session, name string) (*T, error) {
	o := new(T)
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, k.object(o)); err != nil {
		return nil, k.explain(s, err, fmt.Sprintf("%s %q", k.noun, name))
	}
	if err := named(s, k.object(o)); err != nil {
		return nil, err
	}
	return o, nil
}

// named fills in apiVersion and kind, which the client leaves out.
func named(s *Session, o runtime.Object) error {
	gvk, err := apiutil.GVKForObject(o, s.Scheme())
	if err != nil {
		return err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	return nil
}

// create makes an object, waits until it is Ready unless that is not wished for, and says so.
func (k *eventKind[T]) create(ctx context.Context, s *Session, o *T, wait time.Duration) error {
	object := k.object(o)
	what := fmt.Sprintf("%s %q", k.noun, object.GetName())
	if err := s.Create(ctx, object); err != nil {
		return k.explain(s, err, what)
	}
	return k.settle(ctx, s, o, "created", wait)
}

// settle waits until an object that was written is Ready, and prints it.
func (k *eventKind[T]) settle(ctx context.Context, s *Session, o *T, done string, wait time.Duration) error {
	object := k.object(o)
	what := fmt.Sprintf("%s %q", k.noun, object.GetName())
	if wait > 0 {
		if err := k.awaitReady(ctx, s, o, wait); err != nil {
			return fmt.Errorf("%s is %s, but %w; `ebb %s describe %s` shows it", what, done, err, k.noun, object.GetName())
		}
	}
	if err := named(s, object); err != nil {
		return err
	}
	switch s.Format {
	case output.JSON, output.YAML:
		return output.WriteObject(s.Out, s.Format, object)
	case output.Name:
		fmt.Fprintf(s.Out, "%s/%s\n", k.resource, object.GetName())
	default:
		fmt.Fprintf(s.Out, "%s %s\n", what, done)
	}
	return nil
}

// awaitReady looks until an object is Ready as it is now written.
func (k *eventKind[T]) awaitReady(ctx context.Context, s *Session, o *T, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("it is not Ready after %s", wait))
	defer cancel()
	object, last := k.object(o), ""
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err := s.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil && ctx.Err() == nil {
			return err
		} else if err == nil && k.status(o).ObservedGeneration >= object.GetGeneration() {
			ready := k.status(o).Conditions.Get(v1.ConditionReady)
			if ready.IsTrue() {
				return nil
			}
			last = why(ready)
			if ready != nil && ready.Reason == "FilterInvalid" {
				return errors.New(last) // waiting does not help
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if last == "" {
				last = "nobody has looked at it: `ebb status` shows whether the eventing part runs"
			}
			return fmt.Errorf("%w: %s", context.Cause(ctx), last)
		}
	}
}

// listCommand is `ebb NOUN list`.
func (k *eventKind[T]) listCommand() *cobra.Command {
	var f Flags
	var everywhere bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls", "get"}, Short: "List " + k.noun + "s", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			if everywhere {
				s.Namespace = ""
			}
			list := k.list()
			if err := s.List(cmd.Context(), list, client.InNamespace(s.Namespace)); err != nil {
				return k.explain(s, err, "list "+k.noun+"s")
			}
			return k.print(s, list, everywhere, time.Now())
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, k.noun+"s of all namespaces")
	return cmd
}

func (k *eventKind[T]) print(s *Session, list client.ObjectList, everywhere bool, now time.Time) error {
	items := k.items(list)
	slices.SortFunc(items, func(a, b T) int {
		x, y := k.object(&a), k.object(&b)
		return strings.Compare(x.GetNamespace()+"/"+x.GetName(), y.GetNamespace()+"/"+y.GetName())
	})
	for i := range items {
		if err := named(s, k.object(&items[i])); err != nil {
			return err
		}
	}
	switch s.Format {
	case output.JSON, output.YAML:
		if err := named(s, list); err != nil {
			return err
		}
		return output.WriteObject(s.Out, s.Format, list)
	case output.Name:
		for i := range items {
			fmt.Fprintf(s.Out, "%s/%s\n", k.resource, k.object(&items[i]).GetName())
		}
		return nil
	}
	if len(items) == 0 {
		where := "in namespace " + s.Namespace
		if everywhere {
			where = "in any namespace"
		}
		fmt.Fprintf(s.Err, "No %ss %s. Make one: %s\n", k.noun, where, k.make)
		return nil
	}
	var columns []output.Column[T]
	if everywhere {
		columns = append(columns, output.Column[T]{Title: "NAMESPACE", Value: func(o T) string { return k.object(&o).GetNamespace() }})
	}
	columns = append(columns, output.Column[T]{Title: "NAME", Value: func(o T) string { return k.object(&o).GetName() }})
	columns = append(columns, k.columns...)
	ready := func(o T) *v1.Condition { return k.status(&o).Conditions.Get(v1.ConditionReady) }
	columns = append(columns,
		output.Column[T]{Title: "READY", Value: func(o T) string { return readyWord(ready(o)) }},
		output.Column[T]{Title: "AGE", Value: func(o T) string { return output.Age(k.object(&o).GetCreationTimestamp().Time, now) }})
	if slices.ContainsFunc(items, func(o T) bool { return why(ready(o)) != "" }) {
		columns = append(columns, output.Column[T]{Title: "REASON", Value: func(o T) string { return why(ready(o)) }})
	}
	return output.WriteTable(s.Out, s.Format, columns, items)
}

// describeCommand is `ebb NOUN describe`.
func (k *eventKind[T]) describeCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "describe NAME", Short: "Show a " + k.noun + " and its conditions", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNames(&f, k),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			o, err := k.get(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			object := k.object(o)
			switch s.Format {
			case output.JSON, output.YAML:
				return output.WriteObject(s.Out, s.Format, object)
			case output.Name:
				fmt.Fprintf(s.Out, "%s/%s\n", k.resource, object.GetName())
				return nil
			}
			now := time.Now()
			fields := append([][2]string{
				{"Name", object.GetName()}, {"Namespace", object.GetNamespace()}, {"Age", output.Age(object.GetCreationTimestamp().Time, now)},
			}, k.fields(o)...)
			if err := output.WriteFields(s.Out, fields); err != nil {
				return err
			}
			if err := s.printConditions(k.status(o).Conditions, now); err != nil || k.more == nil {
				return err
			}
			return k.more(cmd.Context(), s, o)
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	return cmd
}

func (s *Session) printConditions(conditions v1.Conditions, now time.Time) error {
	if len(conditions) == 0 {
		return nil
	}
	fmt.Fprintln(s.Out)
	return output.WriteTable(s.Out, s.Format, []output.Column[v1.Condition]{
		{Title: "CONDITION", Value: func(c v1.Condition) string { return c.Type }},
		{Title: "STATUS", Value: func(c v1.Condition) string { return string(c.Status) }},
		{Title: "SINCE", Value: func(c v1.Condition) string { return output.Age(c.LastTransitionTime.Time, now) }},
		{Title: "REASON", Value: func(c v1.Condition) string { return why(&c) }},
	}, conditions)
}

// deleteCommand is `ebb NOUN delete`.
func (k *eventKind[T]) deleteCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use: "delete NAME…", Aliases: []string{"rm"}, Short: "Delete " + k.noun + "s", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completeNames(&f, k)(cmd, nil, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				o, err := k.get(cmd.Context(), s, name)
				if err == nil {
					err = k.explain(s, s.Delete(cmd.Context(), k.object(o)), fmt.Sprintf("delete %s %q", k.noun, name))
				}
				if err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(s.Out, "%s %q deleted\n", k.noun, name)
			}
			return errors.Join(errs...)
		},
	}
	f.Add(cmd)
	return cmd
}

// completeNames offers the names of a kind for the first argument.
func completeNames[T any](f *Flags, k *eventKind[T]) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.complete(cmd, func(ctx context.Context, s *Session) []string {
			list := k.list()
			if s.List(ctx, list, client.InNamespace(s.Namespace)) != nil {
				return nil
			}
			var names []string
			for _, o := range k.items(list) {
				names = append(names, k.object(&o).GetName())
			}
			return names
		})
	}
}

// readyWait is --wait of the commands that make something.
func readyWait(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", 30*time.Second, "how long it may take to get Ready; 0 does not wait")
}
