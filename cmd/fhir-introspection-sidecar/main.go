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

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/app"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	// net/http prints what a server sent unasked, which may be patient data, to
	// the standard logger. What matters comes back as an error.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := app.Program{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Build: app.NewBuild(version, commit)}.Run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
