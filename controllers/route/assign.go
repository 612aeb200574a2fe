package route

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

// targets are the objects that a Route's spec refers to, by name; what does not exist is absent.
type targets struct {
	configurations map[string]*v1.Configuration
	revisions      map[string]*v1.Revision
}

// names returns the names of the Configurations and the Revisions that a spec refers to.
func names(traffic []v1.TrafficTarget) (configurations, revisions []string) {
	for _, t := range traffic {
		switch {
		case t.RevisionName != "":
			revisions = append(revisions, t.RevisionName)
		case t.ConfigurationName != "":
			configurations = append(configurations, t.ConfigurationName)
		}
	}
	slices.Sort(configurations)
	slices.Sort(revisions)
	return slices.Compact(configurations), slices.Compact(revisions)
}

// assign resolves the Route's spec to Revisions. When a target cannot take traffic it
// returns the traffic that was served before and the AllTrafficAssigned condition that
// says why; else the new traffic, without URLs, and nil.
func assign(r *v1.Route, at targets) ([]v1.TrafficTarget, *v1.Condition) {
	out := make([]v1.TrafficTarget, 0, len(r.Spec.Traffic))
	var waiting *v1.Condition
	for _, t := range r.Spec.Traffic {
		revision, problem := resolve(r, t, at)
		if problem != nil && problem.Status == corev1.ConditionFalse {
			return r.Status.Traffic, problem
		}
		if problem != nil {
			if waiting == nil {
				waiting = problem
			}
			continue
		}
		next := v1.TrafficTarget{Tag: t.Tag, RevisionName: revision, LatestRevision: new(t.RevisionName == ""), Percent: t.Percent}
		if next.Percent == nil {
			next.Percent = new(int64(0))
		}
		out = append(out, next)
	}
	if waiting != nil {
		return r.Status.Traffic, waiting
	}
	return out, nil
}

func resolve(r *v1.Route, t v1.TrafficTarget, at targets) (string, *v1.Condition) {
	if t.RevisionName != "" {
		rev := at.revisions[t.RevisionName]
		if rev == nil {
			return "", problem(corev1.ConditionFalse, v1.ReasonRevisionMissing, "Revision %q referenced in traffic not found.", t.RevisionName)
		}
		if of, is := r.Labels[serving.ServiceLabel], rev.Labels[serving.ServiceLabel]; of != "" && of != is {
			return "", problem(corev1.ConditionFalse, v1.ReasonRevisionNotOwned, "Revision %q belongs to %s and not to Service %q; a Route of its own may send traffic to both.",
				rev.Name, owner(is), of)
		}
		ready := rev.Status.Conditions.Get(v1.ConditionReady)
		switch {
		case ready.IsTrue() || served(r, rev.Name):
			return rev.Name, nil // what is served already is not taken away
		case ready.IsFalse():
			return "", problem(corev1.ConditionFalse, v1.ReasonRevisionMissing, "Revision %q failed to become ready: %s", rev.Name, ready.Message)
		}
		return "", problem(corev1.ConditionUnknown, v1.ReasonRevisionMissing, "Revision %q is not yet ready.", rev.Name)
	}
	c := at.configurations[t.ConfigurationName]
	if c == nil {
		return "", problem(corev1.ConditionFalse, v1.ReasonConfigurationMissing, "Configuration %q referenced in traffic not found.", t.ConfigurationName)
	}
	if latest := c.Status.LatestReadyRevisionName; latest != "" {
		return latest, nil
	}
	if ready := c.Status.Conditions.Get(v1.ConditionReady); ready.IsFalse() && c.Status.ObservedGeneration == c.Generation {
		return "", problem(corev1.ConditionFalse, v1.ReasonRevisionMissing, "Configuration %q does not have any ready Revision: %s", c.Name, ready.Message)
	}
	return "", problem(corev1.ConditionUnknown, v1.ReasonRevisionMissing, "Configuration %q is waiting for a Revision to become ready.", c.Name)
}

func owner(service string) string {
	if service == "" {
		return "no Service"
	}
	return fmt.Sprintf("Service %q", service)
}

func problem(status corev1.ConditionStatus, reason, format string, args ...any) *v1.Condition {
	return &v1.Condition{Type: v1.RouteAllTrafficAssigned, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func served(r *v1.Route, revision string) bool {
	return slices.ContainsFunc(r.Status.Traffic, func(t v1.TrafficTarget) bool { return t.RevisionName == revision })
}

// urls sets the URL and the address of the Route and the URL of each tag in traffic.
func urls(r *v1.Route, s *settings.Settings, status *v1.RouteStatus) error {
	who := name(r)
	host, err := s.Host(who)
	if err != nil {
		return err
	}
	traffic := slices.Clone(status.Traffic)
	for i := range traffic {
		traffic[i].URL = ""
		if traffic[i].Tag == "" {
			continue
		}
		tagHost, err := s.TagHost(traffic[i].Tag, who)
		if err != nil {
			return err
		}
		traffic[i].URL = s.URL(tagHost)
	}
	status.URL, status.Traffic = s.URL(host), traffic
	status.Address = &v1.Addressable{URL: s.URL(r.Name + "." + r.Namespace + "." + settings.ClusterLocalDomain)}
	return nil
}

func name(r *v1.Route) settings.RouteName {
	return settings.RouteName{Name: r.Name, Namespace: r.Namespace, Labels: r.Labels, Annotations: r.Annotations}
}
