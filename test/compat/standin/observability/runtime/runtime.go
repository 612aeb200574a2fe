// Package runtime stands in for one package that knative.dev/serving imports and that
// the newest knative.dev/pkg within reach does not have yet: it holds the one constant
// which the public validation reads.
package runtime

// ProfilingDefaultPort is the port that the public validation keeps for profiling.
const ProfilingDefaultPort = 8008
