// Command fhir-introspection-sidecar is a reverse proxy in front of a FHIR
// server that lets through what an RFC 7662 introspection endpoint calls active.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// net/http prints what a server sent unasked, which may be patient data, to
	// the standard logger. What matters comes back as an error.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
