package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// requests shows what would become of a request.
type requests visit

// CheckRequest reports what is wrong with a request to ask about: a method and a path
// below the FHIR base, such as "GET /Observation?patient=1", or the whole URL.
func CheckRequest(request string) error {
	method, target, ok := strings.Cut(request, " ")
	if !ok || method == "" || strings.Contains(target, " ") ||
		!strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://") {
		return errors.New("must be a method and a path below the FHIR base, such as 'GET /Observation?patient=1'")
	}
	return nil
}

// accessSettings are what decides about a request of an accepted token.
var accessSettings = map[policy.Reason]diagnosis{
	policy.Interaction:    {"no scope of the token permits it", "SIDECAR_SCOPE_ENFORCEMENT"},
	policy.PatientContext: {"its patient/ scopes are limited to a patient, and the authorization server names none", "SIDECAR_CLAIM_ALIASES"},
	policy.Operation:      {"the operation isn't listed, so that no scope permits it", "SIDECAR_OPERATIONS"},
	policy.OtherPatient:   {"the token is limited to one patient, and the URL leads to another one or doesn't tell", "SIDECAR_PATIENT_GUARD"},
	policy.Tenant:         {"the token is of another tenant", "SIDECAR_TENANT_CLAIM"},
}

// unknownPath is for what FHIR's grammar doesn't have.
var unknownPath = diagnosis{"FHIR knows no such path, so that no scope permits it; if the server does, say what it needs", "SIDECAR_PATH_SCOPES"}

// everybody has the causes of what is refused whoever asks.
var everybody = map[string]diagnosis{
	"bad_path":           {"servers read such a path differently, so that it is refused for every token", ""},
	"method_not_allowed": {"FHIR has no such method", ""},
	"not_found":          {"it isn't below the FHIR base", "SIDECAR_UPSTREAM_URL"},
}

// causeOf is why a request is refused, or would be.
func causeOf(trial *proxy.Trial, reason policy.Reason) diagnosis {
	why, known := accessSettings[reason]
	switch {
	case reason == policy.Interaction && trial.Scopes == "" && trial.Reported == "":
		return unknownPath
	case reason != "" && !known:
		return diagnosis{"the token isn't accepted, whatever is asked for; see above", ""}
	case reason == "":
		return everybody[trial.Decision]
	case trial.Scopes != "":
		why.cause += "; this would help: " + trial.Scopes
	}
	return why
}

// target is the request's, from the root of the host: below the FHIR base, unless it is
// a URL, or begins with the base already.
func (d requests) target(asked string) string {
	base := strings.TrimRight(d.cfg.Settings.Upstream.EscapedPath(), "/")
	if _, rest, absolute := strings.Cut(asked, "://"); absolute && !strings.HasPrefix(asked, "/") {
		_, path, _ := strings.Cut(rest, "/")
		return "/" + path
	}
	if strings.Contains(base, "{") || strings.Contains(base, "%7B") || base != "" && strings.HasPrefix(asked, base+"/") {
		return asked
	}
	return base + asked
}

// tryAll shows what would become of each request with the token, and why. Without a
// response the token is inactive.
func (d requests) tryAll(response *introspection.Response) {
	for _, request := range d.cfg.Requests {
		d.try(request, response)
	}
}

func (d requests) try(request string, response *introspection.Response) {
	const check = "request"
	method, target, _ := strings.Cut(request, " ")
	target = d.target(target)
	trial := d.cfg.Proxy.Try(method, target, response)
	detail := shown(method+" "+target) + ": "
	if trial.Guarded != "" {
		detail = shown(method+" "+target) + " (" + guardText(trial.Guarded) + "): "
	}
	switch {
	case trial.Status != 0:
		detail += fmt.Sprintf("status %d, %s", trial.Status, trial.Decision)
		if trial.Reason != "" {
			detail += ", " + string(trial.Reason)
		}
		d.fail(check, detail, causeOf(&trial, trial.Reason))
	case trial.Reported != "":
		d.warn(check, detail+"let through, and reported as "+string(trial.Reported), causeOf(&trial, trial.Reported))
	default:
		d.ok(check, detail+outcomeText(trial))
	}
}

func outcomeText(trial proxy.Trial) string {
	if trial.Decision == "allowed" {
		return "let through"
	}
	return trial.Decision + ", without looking at a token"
}

// guardText says where a request leads.
func guardText(verdict policy.Reach) string {
	switch verdict {
	case policy.ReachInside:
		return "stays with the patient"
	case policy.ReachOutside:
		return "leads to another patient"
	case policy.ReachNeutral:
		return "concerns no patient"
	}
	return "the URL doesn't tell which patient it leads to"
}
