package service

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// observe returns the Service's next status from its children as last read; a child
// that is not there yet, or has just been given a new spec, is nil.
func observe(s *v1.Service, c *v1.Configuration, r *v1.Route, now time.Time) v1.ServiceStatus {
	status := *s.Status.DeepCopy()
	status.ObservedGeneration = s.Generation
	configuration(&status, s, c, now)
	route(&status, s, c, r, now)
	status.Conditions.Aggregate(v1.ServiceDependents(), now)
	return status
}

func configuration(status *v1.ServiceStatus, s *v1.Service, c *v1.Configuration, now time.Time) {
	switch {
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

func route(status *v1.ServiceStatus, s *v1.Service, c *v1.Configuration, r *v1.Route, now time.Time) {
	switch {
	case r == nil:
		status.Conditions.SetUnknown(v1.ServiceRoutesReady, v1.ReasonOutOfDate,
			fmt.Sprintf("Route %q is being brought up to date.", s.Name), now)
		return
	case !metav1.IsControlledBy(r, s):
		status.Conditions.SetFalse(v1.ServiceRoutesReady, v1.ReasonNotOwned, notOwned(v1.KindRoute, s), now)
		return
	}
	status.RouteStatusFields = *r.Status.RouteStatusFields.DeepCopy()
	if r.Status.ObservedGeneration != r.Generation {
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
