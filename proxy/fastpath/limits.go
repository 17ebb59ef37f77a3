package fastpath

import "time"

// Limits of a connection.
const (
	// headTimeout bounds a head, from its first byte to its last.
	headTimeout = 100 * time.Millisecond

	// watchAfter is when to begin to look whether the client is still there, or as much
	// later again. Most responses have come by then, with 512 connections as well.
	watchAfter = 50 * time.Millisecond

	// lingerTimeout and lingerBytes are what a client gets to stop sending a body that
	// nobody reads.
	lingerTimeout = 500 * time.Millisecond
	lingerBytes   = 256 << 10

	// maxSkipped is how many empty lines after a POST net/http skips.
	maxSkipped = 2
)
