package user

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
)

// service gets one by name, with its kind filled in.
func (s *Session) service(ctx context.Context, name string) (*v1.Service, error) {
	var svc v1.Service
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, &svc); err != nil {
		return nil, s.explain(err, fmt.Sprintf("service %q", name))
	}
	svc.SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindService))
	return &svc, nil
}

// revisionsOf lists a service's revisions, the newest first; of all services when name
// is empty, then by service.
func (s *Session) revisionsOf(ctx context.Context, name string) ([]v1.Revision, error) {
	var list v1.RevisionList
	options := []client.ListOption{client.InNamespace(s.Namespace)}
	if name != "" {
		options = append(options, ofService(name))
	}
	if err := s.List(ctx, &list, options...); err != nil {
		return nil, s.explain(err, "list revisions")
	}
	for i := range list.Items {
		list.Items[i].SetGroupVersionKind(v1.GroupVersion.WithKind(v1.KindRevision))
	}
	slices.SortStableFunc(list.Items, func(a, b v1.Revision) int {
		if c := strings.Compare(a.Labels[serving.ServiceLabel], b.Labels[serving.ServiceLabel]); c != 0 {
			return c
		}
		if c := generation(b) - generation(a); c != 0 {
			return c
		}
		if c := b.CreationTimestamp.Compare(a.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(b.Name, a.Name)
	})
	return list.Items, nil
}

// Replicas is how many ready pods a revision has.
func (s *Session) Replicas(ctx context.Context, revision string) (int32, error) {
	var r v1.Revision
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: revision}, &r); err != nil {
		return 0, s.explain(err, fmt.Sprintf("revision %q", revision))
	}
	if r.Status.ActualReplicas == nil {
		return 0, nil
	}
	return *r.Status.ActualReplicas, nil
}

// generation of the Configuration from which a revision was made; 0 when unknown.
func generation(r v1.Revision) int {
	n, _ := strconv.Atoi(r.Labels[serving.ConfigurationGenerationLabel])
	return n
}

// share is a revision's part of the traffic of a service.
type share struct {
	percent int64
	tags    []string
	latest  bool // because it is the latest, not by name
}

func shares(traffic []v1.TrafficTarget) map[string]share {
	all := map[string]share{}
	for _, t := range traffic {
		s := all[t.RevisionName]
		if t.Percent != nil {
			s.percent += *t.Percent
		}
		if t.Tag != "" {
			s.tags = append(s.tags, t.Tag)
		}
		s.latest = s.latest || t.LatestRevision != nil && *t.LatestRevision
		all[t.RevisionName] = s
	}
	return all
}

// describeTraffic is one line, in the order of the status: "hello-00001 90%, hello-00002 10%".
func describeTraffic(traffic []v1.TrafficTarget) string {
	var parts []string
	for _, t := range traffic {
		name := t.RevisionName
		if name == "" {
			name = "@latest"
		}
		if t.Percent != nil && *t.Percent > 0 {
			name += fmt.Sprintf(" %d%%", *t.Percent)
		}
		if t.Tag != "" {
			name += " (tag " + t.Tag + ")"
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

func readyWord(c *v1.Condition) string {
	if c == nil {
		return "Unknown"
	}
	return string(c.Status)
}

// why a condition is not True: "Reason : message".
func why(c *v1.Condition) string {
	switch {
	case c == nil || c.IsTrue():
		return ""
	case c.Message == "":
		return c.Reason
	case c.Reason == "":
		return c.Message
	}
	return c.Reason + ": " + c.Message
}

func image(spec v1.RevisionSpec) string {
	if len(spec.Containers) == 0 {
		return ""
	}
	return spec.Containers[0].Image
}

func count(n *int32) string {
	if n == nil {
		return "0"
	}
	return strconv.Itoa(int(*n))
}
