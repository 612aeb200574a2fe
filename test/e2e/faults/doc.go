// Package faults is what happens to traffic while the platform changes under it: scaling
// up and down with long requests and websockets open, pods deleted, each process of the
// platform killed, splits and settings changed under load.
//
// The tests run one embedded platform of their own, count every request that a client
// saw fail, and ask for none, but where a connection's own end was killed. Nobody calls
// this package.
package faults
