package doctor

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
)

// causes explains how the introspection endpoint responds.
type causes visit

// diagnose names the likely cause of a failed introspection and what to change.
func (d causes) diagnose(ctx context.Context, ex wireExchange, err error) diagnosis {
	switch {
	case ex.status == 0:
		return networkCause(ex, endpointSetting)
	case ex.status == http.StatusUnauthorized, errors.Is(err, introspection.ErrInvalidClient):
		return refusals(d).diagnoseRefused(ctx, ex)
	case ex.status >= 300 && ex.status < 400:
		to := ""
		if ex.location != "" {
			to = " to " + ex.location
		}
		return diagnosis{"the URL redirects" + to + ", perhaps a login page; redirects are never followed", endpointSetting}
	case ex.status == http.StatusBadRequest:
		return d.diagnoseBadRequest(ctx, ex)
	case ex.status == http.StatusForbidden:
		return d.diagnoseForbidden(ctx)
	case ex.status == http.StatusNotFound, ex.status == http.StatusMethodNotAllowed, ex.status == http.StatusGone:
		return diagnosis{"there is no introspection endpoint at this URL", endpointSetting}
	case ex.status == http.StatusTooManyRequests:
		return diagnosis{"the authorization server limits how often it is asked: try again later; fewer calls at a time may stay below its limit", "SIDECAR_MAX_INTROSPECTIONS"}
	case ex.status >= 500:
		return diagnosis{serverFails, endpointSetting}
	case strings.Contains(ex.contentType, "html"):
		return diagnosis{"a web page answers: the URL is not that of the endpoint, or a gateway stands in between", endpointSetting}
	case errors.Is(err, introspection.ErrMalformed):
		return diagnosis{"what answers is no introspection endpoint", endpointSetting}
	case errors.Is(err, introspection.ErrUnavailable):
		return diagnosis{"the response breaks off or comes too slowly", "SIDECAR_INTROSPECTION_TIMEOUT"}
	}
	return diagnosis{"", endpointSetting}
}

// diagnoseForbidden explains a 403, which is for a client that is known and may not ask.
func (d causes) diagnoseForbidden(ctx context.Context) diagnosis {
	if why, found := refusals(d).tryOtherAuth(ctx); found {
		return why
	}
	if d.cfg.Settings.UsesGrant() {
		return diagnosis{"the own token may not introspect: its scope, or the client's registration", "SIDECAR_TOKEN_SCOPE"}
	}
	return diagnosis{"this client may not introspect: its registration at the authorization server", d.whoAsks()}
}

// whoAsks is the setting that says which client the authorization server sees.
func (d causes) whoAsks() string {
	switch credential.Auth(d.cfg.Settings.IntrospectionAuth) {
	case credential.AuthBearer: // from a file: a grant has a cause of its own
		return "SIDECAR_BEARER_TOKEN_FILE"
	case credential.AuthNone: // it shows nothing
		return "SIDECAR_INTROSPECTION_AUTH"
	default:
		return "SIDECAR_CLIENT_ID"
	}
}

// diagnoseBadRequest explains a 400, which some servers answer to a way of
// authenticating that they don't know.
func (d causes) diagnoseBadRequest(ctx context.Context, ex wireExchange) diagnosis {
	if why, found := refusals(d).tryOtherAuth(ctx); found {
		return why
	}
	// A port that speaks TLS answers plain HTTP so, with a page or a bare line. An
	// authorization server answers in JSON, with a Date or without.
	if strings.HasPrefix(ex.url, "http://") && !strings.Contains(ex.contentType, "json") && (ex.date.IsZero() || strings.Contains(ex.contentType, "html")) {
		return diagnosis{"the port speaks https, and the URL says http", endpointSetting}
	}
	return diagnosis{"the server doesn't take the request; it may expect another way of authenticating", "SIDECAR_INTROSPECTION_AUTH"}
}
