// Package certificate has cert-manager issue the certificates of hosts.
//
// In come owners, Routes and DomainMappings, with the certificates that they want
// ([Issuer.Ensure]); out go Certificate objects of cert-manager.io/v1, and what cert-manager says of
// them. Nothing is watched before external-domain-tls is Enabled and cert-manager is there, which may be
// later than this process; then only the Certificates made here are. The controllers of routes and domain
// mappings use it; the pure parts are in make.go.
package certificate
