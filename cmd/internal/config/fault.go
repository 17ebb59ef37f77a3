package config

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Fault is one thing wrong with the configuration. Its text never has the value
// that was set, which may be a secret in the wrong place.
type Fault struct{ Variable, Text string }

// String returns the line that an operator reads.
func (f Fault) String() string { return f.Variable + ": " + f.Text }

// hasFault reports whether the variable is at fault already.
func hasFault(faults []Fault, variable string) bool {
	return slices.ContainsFunc(faults, func(f Fault) bool { return f.Variable == variable })
}

// causes are variables whose fault a constructor tells a second time, as one of
// another variable.
var causes = map[string]string{
	"SIDECAR_TLS_CERT_FILE":                 "SIDECAR_TLS_KEY_FILE",
	"SIDECAR_CLIENT_CERT_FILE":              "SIDECAR_CLIENT_CERT_KEY_FILE",
	"SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE": "SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE",
	"SIDECAR_CLIENT_ASSERTION_AUDIENCE":     "SIDECAR_ISSUER_URL",
}

// AddFaults adds what a constructor found. Once something is at fault, what it
// misses has been told before, in words that name the variables.
func AddFaults(faults []Fault, err error) []Fault {
	for _, f := range faultsOf(err) {
		missing := f.Variable == noVariable || strings.HasPrefix(f.Text, "is required")
		if !hasFault(faults, f.Variable) && !hasFault(faults, causes[f.Variable]) && (len(faults) == 0 || !missing) {
			faults = append(faults, f)
		}
	}
	return faults
}

// noVariable stands in faults that no single variable is the cause of.
const noVariable = "configuration"

// fieldVariables maps the fields of package introspection's configuration, and
// our own, to the variables they come from.
var fieldVariables = map[string]string{
	"Auth":                        "SIDECAR_INTROSPECTION_AUTH",
	"BearerToken":                 "SIDECAR_BEARER_TOKEN_FILE",
	"TokenEndpoint":               "SIDECAR_TOKEN_ENDPOINT",
	"ClientID":                    "SIDECAR_CLIENT_ID",
	"ClientSecret":                "SIDECAR_CLIENT_SECRET_FILE",
	"ClientKey":                   "SIDECAR_CLIENT_KEY_FILE",
	"Algorithm":                   "SIDECAR_CLIENT_ASSERTION_ALG",
	"Audience":                    "SIDECAR_CLIENT_ASSERTION_AUDIENCE",
	"Timeout":                     "SIDECAR_INTROSPECTION_TIMEOUT",
	"CA":                          "SIDECAR_CA_FILE",
	"ClientCert":                  "SIDECAR_CLIENT_CERT_FILE",
	"SharedCacheKey":              "SIDECAR_SHARED_CACHE_KEY_FILE",
	"SharedCachePassword":         "SIDECAR_SHARED_CACHE_PASSWORD_FILE",
	"SharedCacheSentinelPassword": "SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE",
	"SharedCacheCA":               "SIDECAR_SHARED_CACHE_CA_FILE",
	"SharedCacheClientCert":       "SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE",
	"TLSCert":                     "SIDECAR_TLS_CERT_FILE",
	"AdminToken":                  "SIDECAR_ADMIN_TOKEN_FILE",
	"AuditLog":                    "SIDECAR_AUDIT_LOG",
	"SMARTFile":                   "SIDECAR_SMART_CONFIGURATION_FILE",
}

// SettingOf puts the variable where the log would have the name of a field. It is
// for slog.HandlerOptions.
func SettingOf(_ []string, a slog.Attr) slog.Attr {
	if a.Key != "field" {
		return a
	}
	return slog.String("setting", fieldVariables[a.Value.String()])
}

// faultsOf turns a constructor's error into faults of variables.
func faultsOf(err error) []Fault {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var faults []Fault
		for _, e := range joined.Unwrap() {
			faults = append(faults, faultsOf(e)...)
		}
		return faults
	}
	var field *transport.FieldError
	if errors.As(err, &field) && fieldVariables[field.Field] != "" {
		return []Fault{{fieldVariables[field.Field], field.Err.Error()}}
	}
	return []Fault{{noVariable, err.Error()}}
}
