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
// below the FHIR base, such as "GET /Observation?patient=1".
func CheckRequest(request string) error {
	method, target, ok := strings.Cut(request, " ")
	if !ok || method == "" || !strings.HasPrefix(target, "/") || strings.Contains(target, " ") {
		return errors.New("must be a method and a path below the FHIR base, such as 'GET /Observation?patient=1'")
	}
	return nil
}

// accessSettings are what decides about a request of an accepted token.
var accessSettings = map[policy.Reason]diagnosis{
	policy.Interaction:  {"no scope of the token permits it", "SIDECAR_SCOPE_ENFORCEMENT"},
	policy.Operation:    {"the operation isn't listed, so that no scope permits it", "SIDECAR_OPERATIONS"},
	policy.OtherPatient: {"the token is limited to one patient, and the URL leads to another one or doesn't tell", "SIDECAR_PATIENT_GUARD"},
	policy.Tenant:       {"the token is of another tenant", "SIDECAR_TENANT_CLAIM"},
}

// tryRequest shows what would become of a request with the token, and why.
func (d requests) tryRequest(response *introspection.Response) {
	const check = "request"
	if d.cfg.Request == "" {
		return
	}
	method, target, _ := strings.Cut(d.cfg.Request, " ")
	base := d.cfg.Settings.Upstream.EscapedPath()
	if base = strings.TrimRight(base, "/"); !strings.Contains(base, "{") && !strings.Contains(base, "%7B") {
		target = base + target
	}
	trial := d.cfg.Proxy.Try(method, target, response)
	detail := shown(method+" "+target) + ": "
	if trial.Guarded != "" {
		detail = shown(method+" "+target) + " (" + guardText(trial.Guarded) + "): "
	}
	why := accessSettings[trial.Reason]
	switch {
	case trial.Status != 0:
		detail += fmt.Sprintf("status %d, %s", trial.Status, trial.Decision)
		if trial.Reason != "" {
			detail += ", " + string(trial.Reason)
		}
		if trial.Scopes != "" {
			why.cause += "; this would help: " + trial.Scopes
		}
		d.fail(check, detail, why)
	case trial.Reported != "":
		why = accessSettings[trial.Reported]
		d.warn(check, detail+"let through, and reported as "+string(trial.Reported), why)
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
