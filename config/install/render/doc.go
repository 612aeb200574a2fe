// Package render writes the objects of package install as files: YAML, the kustomize base, and the templates of the Helm
// chart. The generator of config/ and `ebb install -o yaml` call it.
package render
