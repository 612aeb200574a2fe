// Package ingress takes events over HTTP, POST /NAMESPACE/BROKER and /channels/NAMESPACE/NAME,
// and answers 202 when the engine has stored them. It is told the topics by Set and Remove.
package ingress
