// Package valkey is the client side of the store that several sidecars share:
// a Valkey server, or Redis 7.0 or newer, alone, behind Sentinel or as a cluster.
//
// It knows commands and connections, not what the values mean. It is the only
// package that imports a client library.
//
//	store.go    the commands, each bounded by its context
//	connect.go  connections: made by Run, in a loop, never by the caller
//	errors.go   what an error says about the store
//	probe.go    what a diagnosis asks
//
// The account needs no script, no KEYS and no FLUSH: compare-and-set is
// WATCH, MULTI and EXEC, so that an account without EVAL will do.
package valkey
