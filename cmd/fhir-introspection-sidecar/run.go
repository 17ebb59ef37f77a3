package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"runtime"
	"runtime/debug"
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

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

// run is the program as a function of its arguments. ctx ends on SIGTERM.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 {
		command = args[0]
	}
	if command == "check" {
		return checkCommand(ctx, args[1:], stdout, stderr)
	}
	if len(args) > 1 {
		_, _ = fmt.Fprintln(stderr, "a command takes no arguments; see -h")
		return exitConfig
	}
	var err error
	switch command {
	case "serve":
		return serveCommand(ctx, stdout, stderr)
	case "config":
		err = config.WriteTable(stdout)
	case "drain":
		err = drainCommand()
	case "version":
		v, c := buildInfo()
		_, err = fmt.Fprintf(stdout, "fhir-introspection-sidecar %s (commit %s, %s)\n", v, c, runtime.Version())
	case "-h", "-help", "--help", "help":
		_, _ = io.WriteString(stdout, usage)
		err = config.WriteList(stdout)
	default:
		_, _ = fmt.Fprintln(stderr, "unknown command; there are serve, check, config, drain and version, and -h")
		return exitConfig
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailure
	}
	return exitOK
}

// serveCommand runs the sidecar. Nothing listens before every fault was found.
func serveCommand(ctx context.Context, stdout, stderr io.Writer) int {
	// When what reads the log ends before us, lines are lost. Go's default is to
	// die of it, and with it the way to the FHIR server.
	signal.Ignore(syscall.SIGPIPE)
	s := config.Load()
	lines := sink.NewLog(stdout)
	defer lines.Close()
	logger := slog.New(slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: s.Level, ReplaceAttr: config.SettingOf}))
	built, faults := build(s, logger, stdout, nil)
	if len(faults) > 0 {
		for _, f := range faults {
			_, _ = fmt.Fprintln(stderr, f)
		}
		return exitConfig
	}
	if err := built.serve(ctx); err != nil {
		logger.Error("ended", "error", err.Error())
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailure
	}
	return exitOK
}

// buildInfo returns version and commit, from the linker or from the Go build.
func buildInfo() (string, string) {
	v, c := version, commit
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, c
	}
	if v == "dev" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && c == "unknown" {
			c = setting.Value
		}
	}
	return v, c
}
