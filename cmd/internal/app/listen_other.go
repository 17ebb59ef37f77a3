//go:build !unix

package app

// descriptorLimit is no limit here.
func descriptorLimit() int { return unlimitedDescriptors }
