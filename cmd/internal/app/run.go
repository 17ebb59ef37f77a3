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
	Stdin          io.Reader // read by check when it is told to; nil: none
	Stdout, Stderr io.Writer
	Build          Build
}

// commands are those beside serve and check, which take no arguments.
var commands = map[string]struct {
	does string
	run  func(Program) error
}{
	"config":  {"Prints every setting as a Markdown table: variable, default, meaning.", func(p Program) error { return config.WriteTable(p.Stdout) }},
	"drain":   {"Asks the sidecar in this container to drain and serve on. For preStop hooks.", func(Program) error { return drainCommand() }},
	"version": {"Prints version, commit and Go version.", Program.version},
}

// Run is the program as a function of its arguments, those after its name. ctx ends on
// SIGTERM. It returns the exit code.
func (p Program) Run(ctx context.Context, args []string) int {
	name := "serve"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "check":
		return p.check(ctx, args)
	case "-version", "--version":
		name = "version"
	case "-h", "-help", "--help", "help":
		return p.exit(p.help())
	}
	command, known := commands[name]
	switch {
	case name != "serve" && !known:
		_, _ = fmt.Fprintln(p.Stderr, "unknown command; expected serve, check, config, drain or version, or -h")
		return exitConfig
	case len(args) == 1 && isHelp(args[0]) && !known:
		return p.exit(p.help())
	case len(args) == 1 && isHelp(args[0]):
		_, err := fmt.Fprintf(p.Stdout, "Usage: fhir-introspection-sidecar %s\n\n%s\n", name, command.does)
		return p.exit(err)
	case len(args) > 0:
		_, _ = fmt.Fprintln(p.Stderr, "serve, config, drain and version take no arguments; see -h")
		return exitConfig
	case known:
		return p.exit(command.run(p))
	}
	return p.serve(ctx)
}

// isHelp reports whether an argument asks what a command does.
func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// help writes what the program does, and every setting.
func (p Program) help() error {
	if _, err := io.WriteString(p.Stdout, usage); err != nil {
		return err
	}
	return config.WriteList(p.Stdout)
}

func (p Program) version() error {
	_, err := fmt.Fprintln(p.Stdout, p.Build)
	return err
}

// exit is the code of a command that ended so.
func (p Program) exit(err error) int {
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
	hideMemory()
	s := loadSettings()
	format := func(w io.Writer) slog.Handler {
		options := &slog.HandlerOptions{Level: s.Level}
		if s.LogFormat == "text" {
			return slog.NewTextHandler(w, options)
		}
		return slog.NewJSONHandler(w, options)
	}
	lines := sink.NewLog(p.Stdout, format)
	defer lines.Close()
	registry := newRegistry(p.Build)
	handler := format(lines)
	if s.Level > slog.LevelDebug { // who asks for every request gets every line
		sampler := sink.NewSampler(handler, registry)
		defer sampler.Close()
		handler = sampler
	}
	logger := slog.New(handler)
	built, faults := build(s, options{logger: logger, registry: registry, stdout: p.Stdout, build: p.Build})
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
