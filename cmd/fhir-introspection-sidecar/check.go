package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

const (
	// checkTimeout bounds the whole of a check: an operator waits for it.
	checkTimeout = 25 * time.Second

	// silence is how long a step may take before it is told what takes so long.
	silence = 1500 * time.Millisecond
)

const checkUsage = `Usage: fhir-introspection-sidecar check [-json] [-token-file file]

Tries the configuration in the environment for real: asks the FHIR server what it
is, looks for the endpoints, gets the sidecar's own credential and asks about a
token that nobody has. For each failure it names the likely cause and the setting
to look at. It prints no token and no secret, and takes 25 seconds at most.

  -json              print the results as JSON
  -token-file file   also ask about the token in this file; show which checks it
                     passes and which headers the FHIR server would get

Exit codes: 0 everything works, 1 something fails, 2 bad configuration.
`

// Statuses of a check.
const (
	statusOK      = "ok"
	statusWarn    = "warn"
	statusFail    = "fail"
	statusSkipped = "skipped"
)

// checkResult is one line of the doctor's table.
type checkResult struct {
	Check   string `json:"check"`
	Status  string `json:"status"`
	Detail  string `json:"detail"`
	Cause   string `json:"likely_cause,omitempty"`
	Setting string `json:"setting,omitempty"`
}

// diagnosis is the likely cause of a failure and the setting to look at, either
// of which may be unknown.
type diagnosis struct{ cause, setting string }

// doctor tries a configuration for real.
type doctor struct {
	settings  *config.Config
	sidecar   *sidecar
	wire      *wiretap
	tokenFile string // empty: none to look at
	secrets   []string
	stderr    io.Writer
	results   []checkResult
}

// checkCommand runs the doctor. Its exit code says whether everything works.
func checkCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its messages repeat what was typed
	asJSON := flags.Bool("json", false, "")
	tokenFile := flags.String("token-file", "", "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		if _, err := io.WriteString(stdout, checkUsage); err != nil {
			return exitFailure
		}
		return exitOK
	case err != nil || flags.NArg() > 0:
		_, _ = fmt.Fprintln(stderr, "check takes -json and -token-file only; see check -h")
		return exitConfig
	}
	s := config.Load()
	d := &doctor{settings: s, wire: newWiretap(), tokenFile: *tokenFile, stderr: stderr}
	built, faults := build(s, slog.New(slog.DiscardHandler), io.Discard, d.wire)
	if len(faults) > 0 {
		for _, f := range faults {
			_, _ = fmt.Fprintln(stderr, f)
		}
		return exitConfig
	}
	d.sidecar = built
	defer built.cache.Close()
	d.readSecrets()
	d.run(ctx)
	return d.print(stdout, *asJSON)
}

// run makes all checks, in the order in which they depend on each other.
func (d *doctor) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for _, step := range []struct {
		check, doing string
		asks         bool // somebody, which takes time
		run          func(context.Context)
	}{
		{"FHIR server", "asking the FHIR server what it is", true, d.checkUpstream},
		{"discovery", "looking for the endpoints", d.sidecar.discovery != nil, d.checkDiscovery},
		{"keys", "reading the issuer's keys", d.settings.JWTPrecheck, d.checkKeys},
		{"own credential", "getting the sidecar's own token", d.settings.UsesGrant(), d.checkGrant},
		{"introspection", "asking about a token that nobody has", true, d.checkIntrospection},
		{"TLS", "", false, d.checkTLS},
		{"clock", "", false, d.checkClock},
		{"token", "asking about the token in the file", d.tokenFile != "", d.checkToken},
	} {
		if step.asks && ctx.Err() != nil {
			d.fail(step.check, "not tried", diagnosis{fmt.Sprintf("the checks before it took all of the %v", checkTimeout), ""})
			continue
		}
		told := time.AfterFunc(silence, func() { _, _ = fmt.Fprintf(d.stderr, "%s ...\n", step.doing) })
		step.run(ctx)
		told.Stop()
	}
}

func (d *doctor) ok(check, detail string) {
	d.results = append(d.results, checkResult{Check: check, Status: statusOK, Detail: detail})
}

func (d *doctor) skip(check, detail string) {
	d.results = append(d.results, checkResult{Check: check, Status: statusSkipped, Detail: detail})
}

func (d *doctor) warn(check, detail string, why diagnosis) {
	d.results = append(d.results, checkResult{check, statusWarn, detail, why.cause, why.setting})
}

func (d *doctor) fail(check, detail string, why diagnosis) {
	d.results = append(d.results, checkResult{check, statusFail, detail, why.cause, why.setting})
}
