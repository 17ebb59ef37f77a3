// Package app is the program: its commands, and the sidecar put together.
package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/sink"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitConfig  = 2
)

const usage = `fhir-introspection-sidecar lets through to a FHIR server what an introspection
endpoint (RFC 7662) calls active, with its launch context as headers.

Usage:
  fhir-introspection-sidecar [serve]   run until SIGTERM, drain, end
  fhir-introspection-sidecar check     try the configuration for real and say what is wrong; see check -h
  fhir-introspection-sidecar config    print every setting as a Markdown table
  fhir-introspection-sidecar drain     ask the sidecar in this container to drain and serve on; for preStop hooks
  fhir-introspection-sidecar version   print version, commit and Go version

Exit codes: 0 after a clean end, 1 when something failed, 2 for bad configuration.

Settings come from the environment:
`

// Program is the program with all it takes from its process but the environment.
type Program struct {
	Stdout, Stderr io.Writer
	Build          Build
}

// Run is the program as a function of its arguments, those after its name. ctx ends on
// SIGTERM. It returns the exit code.
func (p Program) Run(ctx context.Context, args []string) int {
	command := "serve"
	if len(args) > 0 {
		command = args[0]
	}
	if command == "check" {
		return p.check(ctx, args[1:])
	}
	if len(args) > 1 {
		_, _ = fmt.Fprintln(p.Stderr, "a command takes no arguments; see -h")
		return exitConfig
	}
	var err error
	switch command {
	case "serve":
		return p.serve(ctx)
	case "config":
		err = config.WriteTable(p.Stdout)
	case "drain":
		err = drainCommand()
	case "version":
		_, err = fmt.Fprintln(p.Stdout, p.Build)
	case "-h", "-help", "--help", "help":
		_, _ = io.WriteString(p.Stdout, usage)
		err = config.WriteList(p.Stdout)
	default:
		_, _ = fmt.Fprintln(p.Stderr, "unknown command; there are serve, check, config, drain and version, and -h")
		return exitConfig
	}
	if err != nil {
		_, _ = fmt.Fprintln(p.Stderr, err)
		return exitFailure
	}
	return exitOK
}

// serve runs the sidecar. Nothing listens before every fault was found.
func (p Program) serve(ctx context.Context) int {
	// When what reads the log ends before us, lines are lost. Go's default is to
	// die of it, and with it the way to the FHIR server.
	signal.Ignore(syscall.SIGPIPE)
	s := config.Load()
	format := func(w io.Writer) slog.Handler {
		options := &slog.HandlerOptions{Level: s.Level, ReplaceAttr: config.SettingOf}
		if s.LogFormat == "text" {
			return slog.NewTextHandler(w, options)
		}
		return slog.NewJSONHandler(w, options)
	}
	lines := sink.NewLog(p.Stdout, format)
	defer lines.Close()
	logger := slog.New(format(lines))
	built, faults := build(s, options{logger: logger, stdout: p.Stdout, build: p.Build})
	if len(faults) > 0 {
		p.tell(faults)
		return exitConfig
	}
	if err := built.serve(ctx); err != nil {
		logger.Error("ended", "error", err.Error())
		_, _ = fmt.Fprintln(p.Stderr, err)
		return exitFailure
	}
	return exitOK
}

// tell writes one line for each fault.
func (p Program) tell(faults []config.Fault) {
	for _, f := range faults {
		_, _ = fmt.Fprintln(p.Stderr, f)
	}
}
