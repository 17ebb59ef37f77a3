//go:build !unix

package main

// descriptorLimit is no limit here.
func descriptorLimit() uint64 { return 1 << 32 }
