// Package ship gives the log to other systems. It reads the record from Postgres by writer and seq, turns rows into a
// format, and gives them to sinks in batches: at least once, in the order of each writer, and never with a hole that it
// does not tell. docs/ship.md explains.
package ship
