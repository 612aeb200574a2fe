// Package install makes the objects that are Ebb on a cluster. What comes in are Values,
// which say how; what goes out are the objects, in the order in which they are applied. It is
// the one source of them: `ebb install` applies them, `ebb up` takes the controller's role and settings
// from here, and config/install/generate writes them as the kustomize base and the Helm chart of config/.
package install
