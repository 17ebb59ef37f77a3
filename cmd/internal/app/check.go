package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/doctor"
)

const checkUsage = `Usage: fhir-introspection-sidecar check [-json] [-token-file file [-request 'METHOD /path']]

Tries the configuration in the environment for real: asks the FHIR server what it
is, looks for the endpoints, gets the sidecar's own credential and asks about a
token that nobody has. For each failure it names the likely cause and the setting
to look at. It prints no token and no secret, and takes 25 seconds at most.

  -json              print the results as JSON
  -token-file file   also ask about the token in this file, - for standard input;
                     show which checks it passes and which headers the FHIR server
                     would get
  -request request   also show what would become of a request with that token, and
                     why: 'GET /Observation?patient=1', with the path below the
                     FHIR base; may be repeated

Exit codes: 0 everything works, 1 something fails, 2 bad configuration.
`

// check runs the doctor. Its exit code says whether everything works.
func (p Program) check(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its messages repeat what was typed
	asJSON := flags.Bool("json", false, "")
	tokenFile := flags.String("token-file", "", "")
	var requests []string
	flags.Func("request", "", func(request string) error {
		requests = append(requests, request)
		return doctor.CheckRequest(request)
	})
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		if _, err := io.WriteString(p.Stdout, checkUsage); err != nil {
			return exitFailure
		}
		return exitOK
	case len(requests) > 0 && (*tokenFile == "" || doctor.CheckRequest(requests[len(requests)-1]) != nil):
		_, _ = fmt.Fprintln(p.Stderr, "-request takes a method and a path below the FHIR base, and needs -token-file; see check -h")
		return exitConfig
	case err != nil || flags.NArg() > 0:
		_, _ = fmt.Fprintln(p.Stderr, "check takes -json, -token-file and -request only; see check -h")
		return exitConfig
	}
	built, faults := build(loadSettings(), options{
		logger: slog.New(slog.DiscardHandler), stdout: io.Discard, build: p.Build, wrap: doctor.Tap,
	})
	if len(faults) > 0 {
		p.tell(faults)
		return exitConfig
	}
	defer built.cache.Close()
	credential := built.credentialConfig()
	credential.Registerer = nil
	report := doctor.New(doctor.Config{
		Settings: built.settings, Discovery: built.discovery, Endpoints: built.endpoints,
		Credential: built.credential, CredentialConfig: credential, Client: built.client, Proxy: built.proxy,
		HTTPClient: built.httpClient, FHIRClient: built.fhirClient, Store: built.store(),
		TokenFile: *tokenFile, Requests: requests, SMARTConfiguration: built.smart, Stdin: p.Stdin, Stderr: p.Stderr,
	}).Check(ctx)
	write := report.WriteTable
	if *asJSON {
		write = report.WriteJSON
	}
	if err := write(p.Stdout); err != nil || !report.OK {
		return exitFailure
	}
	return exitOK
}
