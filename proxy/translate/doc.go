// Package translate turns Serving objects into the data plane's model.
//
// A Route with the Revisions it names becomes an [ir.Route] ([Route]), and so does a DomainMapping with that one ([DomainMapping]); a Secret a certificate ([Certificate]); a Revision
// becomes a cluster ([Revision]), its pods that cluster's endpoints for the gateways
// ([Endpoints]) and what an activator has to know of it ([Assignment]). Every function looks
// at one object and what belongs to it, so that the cost of a change is the change; all are
// pure, read only, and may be called from several goroutines.
//
// The publisher (proxy/publish) calls it with objects from its caches.
package translate
