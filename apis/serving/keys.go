package serving

// GroupName is the API group of Service, Configuration, Route and Revision.
const GroupName = "serving.knative.dev"

// EbbGroupName is the prefix of annotations, labels and kinds that Ebb adds to the
// public API.
const EbbGroupName = "ebb.dev"

// Namespace is where Ebb's own ConfigMaps and workloads live by default.
const Namespace = "ebb-system"

// Labels that say which object another one was made for.
const (
	// ServiceLabel names the Service that made a Configuration, a Route, a Revision or a pod.
	ServiceLabel = GroupName + "/service"
	// ServiceUIDLabel is the UID of that Service.
	ServiceUIDLabel = GroupName + "/serviceUID"
	// ConfigurationLabel names the Configuration that made a Revision.
	ConfigurationLabel = GroupName + "/configuration"
	// ConfigurationUIDLabel is the UID of that Configuration.
	ConfigurationUIDLabel = GroupName + "/configurationUID"
	// ConfigurationGenerationLabel is the generation (decimal) of the Configuration from
	// which a Revision was made.
	ConfigurationGenerationLabel = GroupName + "/configurationGeneration"
	// RevisionLabel names the Revision that a Deployment, a ReplicaSet or a pod runs.
	RevisionLabel = GroupName + "/revision"
	// RevisionUIDLabel is the UID of that Revision.
	RevisionUIDLabel = GroupName + "/revisionUID"
	// RouteLabel names the Route that an object serves.
	RouteLabel = GroupName + "/route"
	// RouteNamespaceLabel is the namespace of that Route, where it may differ.
	RouteNamespaceLabel = GroupName + "/routeNamespace"
	// RoutingStateLabel is on a Revision: one of the RoutingState values.
	RoutingStateLabel = GroupName + "/routingState"
	// AppLabel is on pods; its value is the Revision's name.
	AppLabel = "app"
	// VisibilityLabel on a Route or Service keeps it off the external listener when its
	// value is VisibilityClusterLocal.
	VisibilityLabel = "networking.knative.dev/visibility"
	// VisibilityClusterLocal is the only value of VisibilityLabel that means something.
	VisibilityClusterLocal = "cluster-local"
)

// Values of RoutingStateLabel.
const (
	// RoutingStateUnset: nothing has looked at the Revision yet.
	RoutingStateUnset = ""
	// RoutingStatePending: new, and it may be routed soon.
	RoutingStatePending = "pending"
	// RoutingStateActive: at least one Route refers to it.
	RoutingStateActive = "active"
	// RoutingStateReserve: no Route refers to it; it may be collected.
	RoutingStateReserve = "reserve"
)

// Annotations of the public API.
const (
	// CreatorAnnotation is the user who created the object; admission writes it.
	CreatorAnnotation = GroupName + "/creator"
	// LastModifierAnnotation is the user who last changed the object's spec; admission writes it.
	LastModifierAnnotation = GroupName + "/lastModifier"
	// RoutesAnnotation on a Revision lists the Routes that refer to it, separated by commas.
	RoutesAnnotation = GroupName + "/routes"
	// RoutingStateModifiedAnnotation is when RoutingStateLabel changed, RFC 3339.
	RoutingStateModifiedAnnotation = GroupName + "/routingStateModified"
	// RolloutDurationAnnotation is over how long a Route moves to its new latest Revision; a Go duration.
	RolloutDurationAnnotation = GroupName + "/rollout-duration"
	// NoGCAnnotation on a Revision: "true" keeps it from being collected.
	NoGCAnnotation = GroupName + "/no-gc"
	// ProgressDeadlineAnnotation is how long a Revision's Deployment may take to get ready; a Go duration.
	ProgressDeadlineAnnotation = GroupName + "/progress-deadline"
	// PausedAnnotation on a Service, Configuration, Route or Revision: "true" keeps its
	// controller from changing anything on its behalf. What runs goes on.
	PausedAnnotation = GroupName + "/paused"
	// DryRunAnnotation on a Service or Configuration asks the API server, before it is
	// stored, whether it would take a pod of the template: DryRunEnabled or DryRunStrict.
	DryRunAnnotation = "features.knative.dev/podspec-dryrun"
	// DryRunEnabled admits what the API server could not be asked about.
	DryRunEnabled = "enabled"
	// DryRunStrict does not.
	DryRunStrict = "strict"
	// DisableExternalDomainTLSAnnotation: "true" keeps a Route on plain HTTP.
	DisableExternalDomainTLSAnnotation = "networking.knative.dev/disable-external-domain-tls"
	// HTTPProtocolAnnotation overrides config-network's http-protocol for a Route.
	HTTPProtocolAnnotation = "networking.knative.dev/http-protocol"
)

// Headers of tag-header-based routing.
const (
	// TagHeader picks a tag of a Route.
	TagHeader = "knative-serving-tag"
	// DefaultRouteHeader is set to "true" where no tag was picked.
	DefaultRouteHeader = "knative-serving-default-route"
)

// Annotations of Ebb.
const (
	// PortAnnotation on a pod is the port (decimal) on which its user container listens,
	// where that is not the port of the Revision's spec.
	PortAnnotation = EbbGroupName + "/port"
	// TemplateScalingAnnotation on a Revision is the autoscaling annotations that it was made
	// with, a JSON object; what differs from it was set on the Revision itself.
	TemplateScalingAnnotation = EbbGroupName + "/template-scaling"
	// ConcurrencyAnnotation on a Revision: ConcurrencySoft lets a Revision with a
	// containerConcurrency be reached directly when there is capacity.
	ConcurrencyAnnotation = EbbGroupName + "/concurrency"
	// ConcurrencySoft is the value of ConcurrencyAnnotation that gives up exact limits.
	ConcurrencySoft = "soft"
	// RetryAnnotation on a Route or Service: RetryIdempotent retries resets for every
	// method that HTTP calls idempotent, not only for GET, HEAD and OPTIONS.
	RetryAnnotation = EbbGroupName + "/retry"
	// CertificatesAnnotation in a Route's status says, as a JSON object, in which Secret of
	// its namespace the certificate of each of its external hosts is, once it is there.
	CertificatesAnnotation = EbbGroupName + "/certificates"
	// AutocreatedLabel on a ClusterDomainClaim: "true" says that Ebb made it for a
	// DomainMapping, and deletes it with that.
	AutocreatedLabel = EbbGroupName + "/autocreated"
	// CertificateLabel is on the Certificates that Ebb has cert-manager issue.
	CertificateLabel = EbbGroupName + "/certificate"
	// RetryIdempotent is the value of RetryAnnotation.
	RetryIdempotent = "idempotent"
)

// HTTPProtocolAnnotations are the spellings of HTTPProtocolAnnotation, in the order in which they count.
func HTTPProtocolAnnotations() []string {
	return []string{HTTPProtocolAnnotation, "networking.knative.dev/httpProtocol", "networking.knative.dev/httpOption"}
}
