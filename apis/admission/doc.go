// Package admission answers the API server before an object of the Serving API is
// stored: it fills in defaults, writes down who created and last changed the object,
// and refuses what is wrong, naming the field.
//
// In come admission reviews for Service, Configuration, Route and Revision, without
// their /status; out go JSON patches and refusals. The rules themselves are pure
// functions of apis/serving/v1; this package decodes, strictly and by name, and
// compares with what is stored. An update that leaves the spec alone is never refused
// for what the spec says: settings may have become stricter since. Where an object or the
// settings want it, a [DryRun] asks the API server for a pod of the template.
//
// The controller calls Register; whoever installs Ebb applies what Configurations returns.
package admission
