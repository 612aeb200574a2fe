// Package config holds what is installed on a cluster, as YAML, inside the binary:
// for now the custom resource definitions, which controller-gen makes from apis/ into
// config/crd. Nothing comes in; whoever installs Ebb reads CRDs.
package config
