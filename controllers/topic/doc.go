// Package topic keeps the engine's topic of a Broker or a Channel: it makes it and what keeps
// its dead letters, deletes both before the object goes, and writes what came of that to the
// status. The controllers of both kinds call it; it watches nothing.
package topic
