//go:build !unix

package main

// descriptorLimit is no limit here.
func descriptorLimit() int { return manyDescriptors }
