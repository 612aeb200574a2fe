package settings

import (
	"maps"
	"slices"
	"strings"
)

// Flag is the value of a key of config-features.
type Flag string

// Values of a Flag. Ebb admits what is Enabled or Allowed.
const (
	FlagEnabled  Flag = "Enabled"
	FlagAllowed  Flag = "Allowed"
	FlagDisabled Flag = "Disabled"
	// FlagAllowRootBounded is a value of secure-pod-defaults only.
	FlagAllowRootBounded Flag = "AllowRootBounded"
)

// Keys of config-features that switch something of Ebb. The keys that begin with
// kubernetes. switch fields of a PodSpec; the validation of RevisionSpec reads them.
const (
	FeatureMultiContainer        = "multi-container"
	FeatureMultiContainerProbing = "multi-container-probing"
	FeatureTagHeaderRouting      = "tag-header-based-routing"
	FeatureSecurePodDefaults     = "secure-pod-defaults"
	// FeatureDryRun asks the API server whether it would take a pod of the template: always
	// when Enabled, where DryRunAnnotation asks for it when Allowed, the default.
	FeatureDryRun = "kubernetes.podspec-dryrun"
)

// PodFeatures are the keys that switch fields of a PodSpec.
func PodFeatures() []string {
	return []string{
		"kubernetes.containerspec-addcapabilities",
		"kubernetes.podspec-affinity",
		"kubernetes.podspec-dnsconfig",
		"kubernetes.podspec-dnspolicy",
		FeatureDryRun,
		"kubernetes.podspec-fieldref",
		"kubernetes.podspec-hostaliases",
		"kubernetes.podspec-hostipc",
		"kubernetes.podspec-hostnetwork",
		"kubernetes.podspec-hostpid",
		"kubernetes.podspec-init-containers",
		"kubernetes.podspec-nodeselector",
		"kubernetes.podspec-persistent-volume-claim",
		"kubernetes.podspec-persistent-volume-write",
		"kubernetes.podspec-priorityclassname",
		"kubernetes.podspec-runtimeclassname",
		"kubernetes.podspec-schedulername",
		"kubernetes.podspec-securitycontext",
		"kubernetes.podspec-shareprocessnamespace",
		"kubernetes.podspec-tolerations",
		"kubernetes.podspec-topologyspreadconstraints",
		"kubernetes.podspec-volumes-csi",
		"kubernetes.podspec-volumes-emptydir",
		"kubernetes.podspec-volumes-ephemeral",
		"kubernetes.podspec-volumes-hostpath",
		"kubernetes.podspec-volumes-image",
		"kubernetes.podspec-volumes-mount-propagation",
	}
}

// Features is config-features. The zero value has every default.
type Features struct {
	set map[string]Flag
}

func parseFeatures(p *parser) Features {
	f := Features{set: map[string]Flag{}}
	plain := []string{string(FlagEnabled), string(FlagAllowed), string(FlagDisabled)}
	take := func(key string, values []string) {
		var v string
		p.oneOf(key, &v, values)
		if v != "" {
			f.set[key] = Flag(v)
		}
	}
	for _, key := range PodFeatures() {
		take(key, plain)
	}
	take(FeatureMultiContainer, plain)
	take(FeatureMultiContainerProbing, plain)
	take(FeatureTagHeaderRouting, plain)
	take(FeatureSecurePodDefaults, append(plain, string(FlagAllowRootBounded)))
	p.accept("autodetect-http2", "domainmapping-direct-route-traffic", "queueproxy.mount-podinfo", "queueproxy.resource-defaults",
		"responsive-revision-gc", "istio-compatibility")
	return f
}

// IsDisabled says whether an operator has set the key to Disabled. What is not set is
// admitted.
func (f *Features) IsDisabled(key string) bool { return f.set[key] == FlagDisabled }

// Disabled lists the keys set to Disabled, sorted.
func (f *Features) Disabled() []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(f.set)) {
		if f.IsDisabled(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// DryRunAlways says whether every template is tried at the API server before it is stored.
func (f *Features) DryRunAlways() bool { return f.set[FeatureDryRun] == FlagEnabled }

// TagHeaderRouting says whether the header Knative-Serving-Tag picks a tag; off by default.
func (f *Features) TagHeaderRouting() bool {
	v := f.set[FeatureTagHeaderRouting]
	return v == FlagEnabled || v == FlagAllowed
}

// SecurePodDefaults is Disabled, AllowRootBounded or Enabled; Disabled by default.
func (f *Features) SecurePodDefaults() Flag {
	v := f.set[FeatureSecurePodDefaults]
	if v == "" || strings.EqualFold(string(v), string(FlagAllowed)) {
		return FlagDisabled
	}
	return v
}
