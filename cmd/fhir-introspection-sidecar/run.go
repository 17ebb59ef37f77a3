package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
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
  fhir-introspection-sidecar check     try the configuration for real (not available yet)
  fhir-introspection-sidecar config    print every setting as a Markdown table
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
	if len(args) > 1 {
		_, _ = fmt.Fprintf(stderr, "%s takes no arguments; see -h\n", command)
		return exitConfig
	}
	var err error
	switch command {
	case "serve":
		return serveCommand(ctx, stdout, stderr)
	case "check":
		_, _ = fmt.Fprintln(stderr, "check is not available yet")
		return exitFailure
	case "config":
		err = writeConfigTable(stdout)
	case "version":
		v, c := buildInfo()
		_, err = fmt.Fprintf(stdout, "fhir-introspection-sidecar %s (commit %s, %s)\n", v, c, runtime.Version())
	case "-h", "-help", "--help", "help":
		_, _ = io.WriteString(stdout, usage)
		err = writeConfigList(stdout)
	default:
		_, _ = fmt.Fprintln(stderr, "unknown command; there are serve, check, config and version, and -h")
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
	c, faults := loadConfig()
	s := c.validate()
	faults = append(faults, s.faults...)
	logger := slog.New(slog.NewJSONHandler(stdout, &slog.HandlerOptions{Level: s.level}))
	var built *sidecar
	if len(faults) == 0 {
		built, faults = build(s, logger)
	} else {
		faults = append(faults, s.checkFiles()...)
	}
	if len(faults) > 0 {
		for _, f := range faults {
			_, _ = fmt.Fprintln(stderr, f)
		}
		return exitConfig
	}
	if err := built.serve(ctx); err != nil {
		logger.Error("ended", "error", err.Error())
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

// fieldVariables maps the fields of package introspection's configuration to
// the variables they come from.
var fieldVariables = map[string]string{
	"Auth":          "SIDECAR_INTROSPECTION_AUTH",
	"BearerToken":   "SIDECAR_BEARER_TOKEN_FILE",
	"TokenEndpoint": "SIDECAR_TOKEN_ENDPOINT",
	"ClientID":      "SIDECAR_CLIENT_ID",
	"ClientSecret":  "SIDECAR_CLIENT_SECRET_FILE",
	"ClientKey":     "SIDECAR_CLIENT_KEY_FILE",
	"Algorithm":     "SIDECAR_CLIENT_ASSERTION_ALG",
	"Audience":      "SIDECAR_CLIENT_ASSERTION_AUDIENCE",
	"Timeout":       "SIDECAR_INTROSPECTION_TIMEOUT",
	"CA":            "SIDECAR_CA_FILE",
	"ClientCert":    "SIDECAR_CLIENT_CERT_FILE",
}

// faultsOf turns a constructor's error into faults of variables.
func faultsOf(err error) []fault {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what errors.Join returns
		var faults []fault
		for _, e := range joined.Unwrap() {
			faults = append(faults, faultsOf(e)...)
		}
		return faults
	}
	var field *introspection.FieldError
	if errors.As(err, &field) && fieldVariables[field.Field] != "" {
		return []fault{{fieldVariables[field.Field], field.Err.Error()}}
	}
	return []fault{{"configuration", err.Error()}}
}
