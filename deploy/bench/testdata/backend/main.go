// Command backend is what the benchmark needs around the proxies under test: a
// FHIR server and an introspection endpoint that cost little, a plain Go reverse
// proxy to compare with, and a client that checks and fills the proxies.
package main

import (
	"fmt"
	"os"
)

// tokenFormat makes the n-th valid token. wrk.lua makes the same.
const tokenFormat = "bench-token-%06d-0123456789abcdefghijklmnopqrstuvwxyzABCDEF"

// credential is what the proxies must show to the introspection endpoint.
const credential = "bench-credential"

var commands = map[string]func(args []string) error{
	"serve":     serve,
	"plain":     plain,
	"verify":    verify,
	"fill":      fill,
	"coldstart": coldstart,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: backend serve|plain|verify|fill|coldstart ...")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "backend %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
