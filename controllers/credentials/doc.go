// Package credentials keeps the certificates of the platform's parts on a cluster.
//
// The Secret ebb-ca holds the authorities; from it come the Secrets that the parts use:
// ebb-controller-tls, ebb-activator-tls, ebb-gateway-tls, ebb-eventing-tls, ebb-nats-tls (a role
// each, see package trust) and ebb-webhook-tls, and the caBundle of the webhook configurations. The core is pure: [Authority] says
// what has to be signed and with what, given the time. [Keeper] is the shell: every replica makes what is
// missing when it starts, because none can lead without a certificate; after that only the
// leader renews, and the others read what it wrote.
//
// An authority is believed for a day before it signs and for as long as anything it signed
// lives, so that rotating it is not noticed.
package credentials
