package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// maxStatement bounds a CapabilityStatement.
const maxStatement = 64 << 20

// upstream asks the FHIR server what it is.
type upstream visit

// check asks the FHIR server what it is.
func (d upstream) check(ctx context.Context) {
	const check = "FHIR server"
	base := d.cfg.Settings.FHIRBase()
	if base == "" {
		d.skip(check, "SIDECAR_UPSTREAM_URL has {tenant}: there is no tenant to ask about")
		return
	}
	location := base + "/metadata"
	ctx, seen := record(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		d.fail(check, "its URL can't be used", diagnosis{"the URL is malformed", upstreamSetting})
		return
	}
	req.Header.Set("Accept", "application/fhir+json, application/json;q=0.9")
	res, err := d.cfg.FHIRClient.Do(req)
	if err != nil {
		d.fail(check, "no response from "+location, upstreamCause(seen.last(location)))
		return
	}
	defer res.Body.Close()
	ex := seen.last(location)
	switch {
	case res.StatusCode == http.StatusOK:
		d.readStatement(location, ex, res.Body)
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		d.warn(check, fmt.Sprintf("%s answers with status %d", location, res.StatusCode),
			diagnosis{"it doesn't show its metadata without a token, so that what it is can't be told", ""})
	case res.StatusCode == http.StatusLoopDetected:
		d.fail(check, location+" answers with status 508", diagnosis{"the URL leads to a sidecar whose FHIR server is itself", upstreamSetting})
	case res.StatusCode >= 500:
		d.fail(check, fmt.Sprintf("%s answers with status %d", location, res.StatusCode), diagnosis{"the FHIR server is starting, or broken, or a gateway doesn't reach it", upstreamSetting})
	case ex.location != "":
		d.fail(check, location+" redirects to "+ex.location, diagnosis{"the path is not the FHIR base, or something stands in front of the server", upstreamSetting})
	default:
		d.fail(check, fmt.Sprintf("%s answers with status %d", location, res.StatusCode),
			diagnosis{"the path in the URL is not the FHIR base", upstreamSetting})
	}
}

// readStatement tells a FHIR server from what else may answer.
func (d upstream) readStatement(location string, ex wireExchange, body io.Reader) {
	const check = "FHIR server"
	var statement struct {
		ResourceType string `json:"resourceType"`
		FHIRVersion  string `json:"fhirVersion"`
		Software     struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"software"`
	}
	if strings.Contains(ex.contentType, "fhir+xml") {
		d.ok(check, location+" answers in XML")
		return
	}
	err := json.NewDecoder(io.LimitReader(body, maxStatement)).Decode(&statement)
	doubt := diagnosis{"another program listens there, or the path in the URL is not the FHIR base", upstreamSetting}
	switch {
	case err != nil:
		d.fail(check, location+" is no CapabilityStatement", doubt)
		return
	case statement.ResourceType != "CapabilityStatement" && statement.ResourceType != "Conformance":
		d.warn(check, location+" is no CapabilityStatement", doubt)
		return
	}
	words := slices.DeleteFunc([]string{shown(statement.Software.Name), shown(statement.Software.Version)}, func(s string) bool { return s == "" })
	name := strings.Join(words, " ")
	if name == "" {
		name = "unnamed software"
	}
	d.ok(check, fmt.Sprintf("%s, FHIR %s, at %s", name, shown(statement.FHIRVersion), d.cfg.Settings.FHIRBase()))
}
