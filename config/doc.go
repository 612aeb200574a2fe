// Package config holds what is installed on a cluster. In the binary are the custom resource definitions, which controller-gen
// makes from apis/ into config/crd; package install makes all other objects, from which the kustomize base
// (base/, with overlays/ on it) and the Helm chart (chart/) are generated. Nothing comes in; whoever installs Ebb reads CRDs.
package config
