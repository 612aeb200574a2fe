// Package metrics is metrics.k8s.io of the embedded default: what `kubectl top` shows and
// what a HorizontalPodAutoscaler of cpu or memory scales by. A Source says which pods run;
// a Meter reads what their control groups or processes have used, and makes rates of two
// readings; Handler answers the API of it. Nothing is read while nobody asks.
//
// Who may ask is the API server's business, which authorizes a request before it passes it
// on: package node, which serves the Handler, lets nobody else in.
package metrics
