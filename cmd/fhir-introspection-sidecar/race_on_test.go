//go:build race

package main

// raceFactor is what the race detector multiplies memory by, or more.
const raceFactor = 8
