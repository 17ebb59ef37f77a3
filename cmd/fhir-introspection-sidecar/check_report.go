package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// checkToken shows what would become of a request with a given token.
func (d *doctor) checkToken(ctx context.Context, path string) {
	const check = "token"
	content, err := watch(path)(true)
	if err != nil {
		d.add(checkResult{check, statusFail, err.Error(), "the file can't be read", "-token-file"})
		return
	}
	response, err := d.sidecar.client.Introspect(ctx, strings.TrimSpace(string(content)))
	switch {
	case errors.Is(err, introspection.ErrInactive):
		d.add(checkResult{check, statusFail, "inactive", "expired, revoked, of another issuer, or a token that is never accepted", ""})
		return
	case err != nil:
		cause, setting := d.diagnose(ctx, d.wire.last(d.sidecar.endpoints().Introspection), err)
		d.add(checkResult{check, statusFail, err.Error(), cause, setting})
		return
	}
	d.add(checkResult{Check: check, Status: statusOK, Detail: "active"})
	for _, v := range d.sidecar.proxy.Explain(response) {
		r := checkResult{Check: "token " + v.Check, Status: statusOK, Detail: v.Detail}
		if !v.Passed {
			r.Status, r.Cause, r.Setting = statusFail, "the token doesn't have what is required", v.Setting
		}
		d.add(r)
	}
	header := d.sidecar.proxy.ContextFor(response)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		d.add(checkResult{Check: "header", Status: statusOK, Detail: name + ": " + header.Get(name)})
	}
}

// print writes the results and returns the exit code.
func (d *doctor) print(w io.Writer, asJSON bool) int {
	code := exitOK
	for _, r := range d.results {
		if r.Status == statusFail {
			code = exitFailure
		}
	}
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		if encoder.Encode(map[string]any{"ok": code == exitOK, "checks": d.results}) != nil {
			return exitFailure
		}
		return code
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range d.results {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", r.Status, r.Check, r.Detail)
		if r.Cause != "" {
			_, _ = fmt.Fprintf(table, "\t\tlikely cause: %s\n", r.Cause)
		}
		if r.Setting != "" && r.Status != statusOK {
			_, _ = fmt.Fprintf(table, "\t\tlook at: %s\n", r.Setting)
		}
	}
	if table.Flush() != nil {
		return exitFailure
	}
	return code
}
