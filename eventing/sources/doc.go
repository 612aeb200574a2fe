// Package sources has what sends the events of sources that run inside Ebb: to a Broker or a
// Channel they are published straight into its topic, to any other sink they are sent by HTTP.
package sources
