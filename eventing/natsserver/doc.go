// Package natsserver runs one NATS server with JetStream on a folder: for the embedded default
// and for small installations. Larger ones have a cluster of NATS servers, which Ebb is given
// by URL.
//
// What it promises: an event is acknowledged when it has been handed to the operating system's
// files, so it survives the end of the process however it comes (kill -9). Power that fails
// loses at most what came within SyncInterval; with SyncAlways, where each event is synced
// to the disk before it is acknowledged, nothing.
package natsserver
