// Command app is the service that tests deploy: it does on demand what real services do
// (take time, echo, stream, hold websockets and gRPC streams, crash) and counts what it
// has in progress. HTTP/1.1, h2c and gRPC are on one port, $PORT.
package main
