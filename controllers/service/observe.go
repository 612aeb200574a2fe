package service

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// reasonFailedCreate: the API server refused a child.
const reasonFailedCreate = "FailedCreate"

// seen is what a Service's status is made from: its children as last read. A child that
// is not there yet, or has just been given a new spec, is nil.
type seen struct {
	configuration *v1.Configuration
	route         *v1.Route
	// What the API server said when it refused one; empty when it did not.
	configurationRefused, routeRefused string
	changed                            bool // a child has just been made or given a new spec
}

func (at *seen) refusal() bool { return at.configurationRefused != "" || at.routeRefused != "" }

// held says whether the Route waits: a template that names its Revision may come with
// traffic to that name, and until the Configuration has made the Revision the name may
// belong to another one.
func (at *seen) held(s *v1.Service) bool {
	c := at.configuration
	return s.Spec.Template.Name != "" && (c == nil ||
		metav1.IsControlledBy(c, s) && (c.Status.ObservedGeneration != c.Generation || nameTaken(c)))
}

func nameTaken(c *v1.Configuration) bool {
	ready := c.Status.Conditions.Get(v1.ConditionReady)
	return ready.IsFalse() && ready.Reason == v1.ReasonRevisionNameTaken
}

// observe returns the Service's next status.
func observe(s *v1.Service, at seen, now time.Time) v1.ServiceStatus {
	status := *s.Status.DeepCopy()
	status.ObservedGeneration = s.Generation
	status.Conditions.Remove(v1.ConditionPaused)
	configuration(&status, s, at, now)
	route(&status, s, at, now)
	status.Conditions.Aggregate(v1.ServiceDependents(), now)
	return status
}

func configuration(status *v1.ServiceStatus, s *v1.Service, at seen, now time.Time) {
	c := at.configuration
	switch {
	case at.configurationRefused != "":
		status.Conditions.SetFalse(v1.ServiceConfigurationsReady, reasonFailedCreate, at.configurationRefused, now)
	case c == nil:
		status.Conditions.SetUnknown(v1.ServiceConfigurationsReady, v1.ReasonOutOfDate,
			fmt.Sprintf("Configuration %q is being brought up to date.", s.Name), now)
	case !metav1.IsControlledBy(c, s):
		status.Conditions.SetFalse(v1.ServiceConfigurationsReady, v1.ReasonNotOwned, notOwned(v1.KindConfiguration, s), now)
	case c.Status.ObservedGeneration != c.Generation:
		status.Conditions.SetUnknown(v1.ServiceConfigurationsReady, v1.ReasonOutOfDate,
			fmt.Sprintf("Configuration %q has not yet acted on its latest spec.", c.Name), now)
	default:
		status.ConfigurationStatusFields = c.Status.ConfigurationStatusFields
		status.Conditions.Carry(v1.ServiceConfigurationsReady, c.Status.Conditions.Get(v1.ConditionReady), now)
	}
}

func route(status *v1.ServiceStatus, s *v1.Service, at seen, now time.Time) {
	c, r := at.configuration, at.route
	switch {
	case at.routeRefused != "":
		status.Conditions.SetFalse(v1.ServiceRoutesReady, reasonFailedCreate, at.routeRefused, now)
		return
	case r != nil && !metav1.IsControlledBy(r, s):
		status.Conditions.SetFalse(v1.ServiceRoutesReady, v1.ReasonNotOwned, notOwned(v1.KindRoute, s), now)
		return
	case r != nil:
		status.RouteStatusFields = *r.Status.RouteStatusFields.DeepCopy()
	}
	switch {
	case at.held(s) && c != nil && nameTaken(c):
		status.Conditions.SetFalse(v1.ServiceRoutesReady, v1.ReasonRevisionNameTaken,
			fmt.Sprintf("Traffic stays as it is: the revision name %q is taken by a Revision with other content.", s.Spec.Template.Name), now)
		return
	case r == nil || at.held(s):
		status.Conditions.SetUnknown(v1.ServiceRoutesReady, v1.ReasonOutOfDate,
			fmt.Sprintf("Route %q is being brought up to date.", s.Name), now)
		return
	case r.Status.ObservedGeneration != r.Generation:
		status.Conditions.SetUnknown(v1.ServiceRoutesReady, v1.ReasonOutOfDate,
			fmt.Sprintf("Route %q has not yet acted on its latest spec.", r.Name), now)
		return
	}
	ready := r.Status.Conditions.Get(v1.ConditionReady)
	if ready.IsTrue() && c != nil && metav1.IsControlledBy(c, s) && !migrated(r, c.Status.LatestReadyRevisionName) {
		status.Conditions.SetUnknown(v1.ServiceRoutesReady, v1.ReasonTrafficNotMigrated,
			fmt.Sprintf("Traffic has not yet moved to the latest ready revision %q.", c.Status.LatestReadyRevisionName), now)
		return
	}
	status.Conditions.Carry(v1.ServiceRoutesReady, ready, now)
}

// migrated says whether every served target that follows the latest revision is at it.
func migrated(r *v1.Route, latest string) bool {
	return !slices.ContainsFunc(r.Status.Traffic, func(t v1.TrafficTarget) bool {
		return t.LatestRevision != nil && *t.LatestRevision && t.RevisionName != latest
	})
}

func notOwned(kind string, s *v1.Service) string {
	return fmt.Sprintf("A %s named %q exists and does not belong to this Service; delete it or give the Service another name.", kind, s.Name)
}
