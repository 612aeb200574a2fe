// Package containersource makes a Deployment for each ContainerSource, whose containers have the
// address of the sink in $K_SINK.
package containersource
