package config

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// settingTest is a setting, alone or beside others.
type settingTest struct {
	variable, value string
	beside          []string // pairs of variable and value
	want            string   // the fault, "" for none; of variable unless it names another
}

// settingTests has for each variable what it takes and what it doesn't, alone
// or beside others.
var settingTests = slices.Concat(sharedTests, accessTests, []settingTest{
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "https://fhir.internal:8443/a/b/", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "HTTP://[::1]:8080/fhir", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/{tenant}/fhir", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:65535/fhir", nil, ""},
	{"SIDECAR_UPSTREAM_URL", "", nil, "is required: the FHIR base URL, such as http://127.0.0.1:8080/fhir"},
	{"SIDECAR_UPSTREAM_URL", "fhir.internal:8080", nil, "must begin with http:// or https://"},
	{"SIDECAR_UPSTREAM_URL", "/fhir", nil, "must begin with http:// or https://"},
	{"SIDECAR_UPSTREAM_URL", "ftp://fhir.internal/", nil, "must begin with http:// or https://"},
	{"SIDECAR_UPSTREAM_URL", " http://fhir.internal/", nil, "is not a URL"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/\n", nil, "is not a URL"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir internal/", nil, "is not a URL"},
	{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:http/", nil, "is not a URL"},
	{"SIDECAR_UPSTREAM_URL", "http:///fhir", nil, "must name a host"},
	{"SIDECAR_UPSTREAM_URL", "http://:8080/fhir", nil, "must name a host"},
	{"SIDECAR_UPSTREAM_URL", "http:fhir.internal", nil, "must name a host"},
	{"SIDECAR_UPSTREAM_URL", "http://[fe80::1%25eth0]/fhir", nil, "must name a host"},
	{"SIDECAR_UPSTREAM_URL", "http://u:p@fhir.internal/", nil, "must not have user information: secrets come from files"},
	{"SIDECAR_UPSTREAM_URL", "http://@fhir.internal/", nil, "must not have user information: secrets come from files"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/#top", nil, "must not have a fragment"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/#", nil, "must not have a fragment"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/fhir?x=1", nil, "must not have a query"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/fhir?", nil, "must not have a query"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal:/fhir", nil, "must have a port from 1 to 65535, or none"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal:0/fhir", nil, "must have a port from 1 to 65535, or none"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal:65536/fhir", nil, "must have a port from 1 to 65535, or none"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/a/../b", nil, "path must not have dot segments, empty segments, parameters or encoded separators"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal//", nil, "path must not have dot segments, empty segments, parameters or encoded separators"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/fhir//", nil, "path must not have dot segments, empty segments, parameters or encoded separators"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/a%2fb", nil, "path must not have dot segments, empty segments, parameters or encoded separators"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/fhir/{realm}", nil, "only one path segment may be a placeholder, and it is {tenant}"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/t-{tenant}", nil, "{tenant} must be a whole path segment"},
	{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8000/fhir", nil, "is the sidecar's own SIDECAR_LISTEN_ADDRESS: requests would loop"},
	{"SIDECAR_UPSTREAM_URL", "http://localhost:9999", []string{"SIDECAR_LISTEN_ADDRESS", "0.0.0.0:9999"}, "is the sidecar's own SIDECAR_LISTEN_ADDRESS: requests would loop"},
	{"SIDECAR_UPSTREAM_URL", "https://[::1]/fhir", []string{"SIDECAR_LISTEN_ADDRESS", ":443"}, "is the sidecar's own SIDECAR_LISTEN_ADDRESS: requests would loop"},
	{"SIDECAR_UPSTREAM_URL", "http://fhir.internal:8000/fhir", nil, ""},

	{"SIDECAR_LISTEN_ADDRESS", ":1", nil, ""},
	{"SIDECAR_LISTEN_ADDRESS", ":65535", nil, ""},
	{"SIDECAR_LISTEN_ADDRESS", "127.0.0.1:0", nil, ""},
	{"SIDECAR_LISTEN_ADDRESS", "[::1]:8000", nil, ""},
	{"SIDECAR_LISTEN_ADDRESS", "", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", "8000", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", ":65536", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", ":-1", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", ":00", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", ":http", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", "::1:8000", nil, "must be host:port or :port"},
	{"SIDECAR_LISTEN_ADDRESS", "http://127.0.0.1:8000", nil, "must be host:port or :port"},
	{"SIDECAR_ADMIN_ADDRESS", "127.0.0.1:0", []string{"SIDECAR_LISTEN_ADDRESS", "127.0.0.1:0"}, ""},
	{"SIDECAR_ADMIN_ADDRESS", "127.0.0.1:8001", nil, ""},
	{"SIDECAR_ADMIN_ADDRESS", "admin", nil, "must be host:port or :port"},
	{"SIDECAR_ADMIN_ADDRESS", ":8000", nil, "must differ from SIDECAR_LISTEN_ADDRESS"},

	{"SIDECAR_INTROSPECTION_ENDPOINT", "https://as.example:8443/introspect?realm=a", nil, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://127.0.0.1:9000/introspect", nil, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://127.200.0.1/introspect", nil, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://[::1]/introspect", nil, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://[::ffff:127.0.0.1]/introspect", nil, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://LocalHost/introspect", nil, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "", nil, wantEndpoint},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "", []string{"SIDECAR_ISSUER_URL", "https://as.example"}, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "", []string{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example"}, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "", []string{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/{tenant}", "SIDECAR_ISSUER_URL", "https://as.example"}, ""},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "", []string{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/{tenant}", "SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example"}, wantEndpoint},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "as.example/introspect", nil, "must begin with http:// or https://"},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "https://u:p@as.example/", nil, "must not have user information: secrets come from files"},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://as.example/introspect", nil, wantInsecure},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://10.0.0.1/introspect", nil, wantInsecure},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://127.0.0.1.example/introspect", nil, wantInsecure},
	{"SIDECAR_INTROSPECTION_ENDPOINT", "http://localhost.example/introspect", nil, wantInsecure},
	{"SIDECAR_ALLOW_INSECURE_HTTP", "true", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "http://as.example/introspect"}, ""},
	{"SIDECAR_ALLOW_INSECURE_HTTP", "false", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "http://as.example/introspect"}, "SIDECAR_INTROSPECTION_ENDPOINT: " + wantInsecure},
	{"SIDECAR_ALLOW_INSECURE_HTTP", "yes", nil, "must be true or false"},
	{"SIDECAR_ISSUER_URL", "https://as.example/realm", nil, ""},
	{"SIDECAR_ISSUER_URL", "https://as.example/realm/", nil, ""},
	{"SIDECAR_ISSUER_URL", "https://as.example/realm?a=b", nil, "must not have a query"},
	{"SIDECAR_ISSUER_URL", "https://as.example/realm?", nil, "must not have a query"},
	{"SIDECAR_ISSUER_URL", "https://as.example/realm#a", nil, "must not have a fragment"},
	{"SIDECAR_ISSUER_URL", "as.example", nil, "must begin with http:// or https://"},
	{"SIDECAR_ISSUER_URL", "http://as.example", nil, wantInsecure},
	{"SIDECAR_TOKEN_ENDPOINT", "https://as.example/token", nil, ""},
	{"SIDECAR_TOKEN_ENDPOINT", "http://as.example/token", nil, wantInsecure},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", " , ", nil, wantItems},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example, as.example:8443,[2001:db8::1]:8443", nil, ""},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "https://as.example", nil, wantHosts},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example/path", nil, wantHosts},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "*.example", nil, wantHosts},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example:0", nil, wantHosts},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example:", nil, wantHosts},
	{"SIDECAR_DISCOVERY_ALLOWED_HOSTS", "u@as.example", nil, wantHosts},

	{"SIDECAR_INTROSPECTION_AUTH", "bearer", nil, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "none", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "http://127.0.0.1:9/i"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "none", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "https://localhost/i"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "none", nil, "none is for an endpoint on a loopback address only"},
	{"SIDECAR_INTROSPECTION_AUTH", "none", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "", "SIDECAR_ISSUER_URL", "http://127.0.0.1:9"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "none", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "", "SIDECAR_DISCOVERY_ALLOWED_HOSTS", "127.0.0.1:9,as.example"}, "none is for an endpoint on a loopback address only"},
	{"SIDECAR_INTROSPECTION_AUTH", "none", []string{"SIDECAR_INTROSPECTION_ENDPOINT", "http://as.example/i", "SIDECAR_ALLOW_INSECURE_HTTP", "true"}, "none is for an endpoint on a loopback address only"},
	{"SIDECAR_INTROSPECTION_AUTH", "client_assertion", []string{"SIDECAR_CLIENT_ID", "a", "SIDECAR_CLIENT_KEY_FILE", "/k"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "client_assertion", []string{"SIDECAR_CLIENT_KEY_FILE", "/k"}, "SIDECAR_CLIENT_ID: is required with SIDECAR_INTROSPECTION_AUTH=client_assertion"},
	{"SIDECAR_INTROSPECTION_AUTH", "client_assertion", []string{"SIDECAR_CLIENT_ID", "a", "SIDECAR_CLIENT_SECRET_FILE", "/s"}, "SIDECAR_CLIENT_KEY_FILE: is required with SIDECAR_INTROSPECTION_AUTH=client_assertion"},
	{"SIDECAR_INTROSPECTION_AUTH", "client_secret_basic", []string{"SIDECAR_CLIENT_ID", "a", "SIDECAR_CLIENT_SECRET_FILE", "/s"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "client_secret_basic", []string{"SIDECAR_CLIENT_ID", "a"}, "SIDECAR_CLIENT_SECRET_FILE: is required with SIDECAR_INTROSPECTION_AUTH=client_secret_basic"},
	{"SIDECAR_INTROSPECTION_AUTH", "client_secret_post", []string{"SIDECAR_CLIENT_ID", "a", "SIDECAR_CLIENT_SECRET_FILE", "/s"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "client_secret_post", []string{"SIDECAR_CLIENT_SECRET_FILE", "/s"}, "SIDECAR_CLIENT_ID: is required with SIDECAR_INTROSPECTION_AUTH=client_secret_post"},
	{"SIDECAR_INTROSPECTION_AUTH", "tls_client_auth", []string{"SIDECAR_CLIENT_ID", "a", "SIDECAR_CLIENT_CERT_FILE", "/c", "SIDECAR_CLIENT_CERT_KEY_FILE", "/k"}, ""},
	{"SIDECAR_INTROSPECTION_AUTH", "tls_client_auth", []string{"SIDECAR_CLIENT_CERT_FILE", "/c", "SIDECAR_CLIENT_CERT_KEY_FILE", "/k"}, "SIDECAR_CLIENT_ID: is required with SIDECAR_INTROSPECTION_AUTH=tls_client_auth"},
	{"SIDECAR_INTROSPECTION_AUTH", "tls_client_auth", []string{"SIDECAR_CLIENT_ID", "a"}, "SIDECAR_CLIENT_CERT_FILE: is required with SIDECAR_INTROSPECTION_AUTH=tls_client_auth"},
	{"SIDECAR_TOKEN_AUTH", "client_secret_post", grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s"), ""},
	{"SIDECAR_TOKEN_AUTH", "client_secret_basic", grantWith("SIDECAR_CLIENT_KEY_FILE", "/k"), "SIDECAR_CLIENT_SECRET_FILE: is required with SIDECAR_TOKEN_AUTH=client_secret_basic"},
	{"SIDECAR_TOKEN_AUTH", "private_key_jwt", grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s"), "SIDECAR_CLIENT_KEY_FILE: is required with SIDECAR_TOKEN_AUTH=private_key_jwt"},
	{"SIDECAR_TOKEN_AUTH", "tls_client_auth", grantWith("SIDECAR_CLIENT_CERT_FILE", "/c", "SIDECAR_CLIENT_CERT_KEY_FILE", "/k"), ""},
	{"SIDECAR_TOKEN_AUTH", "tls_client_auth", grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s"), "SIDECAR_CLIENT_CERT_FILE: is required with SIDECAR_TOKEN_AUTH=tls_client_auth"},
	{"SIDECAR_TOKEN_AUTH", "", grantWith("SIDECAR_CLIENT_CERT_FILE", "/c", "SIDECAR_CLIENT_CERT_KEY_FILE", "/k"), ""},
	{"SIDECAR_TOKEN_AUTH", "bearer", nil, "must be client_secret_basic, client_secret_post, private_key_jwt or tls_client_auth"},
	{"SIDECAR_JWKS_URL", "https://as.internal/jwks", nil, ""},
	{"SIDECAR_JWKS_URL", "http://as.internal/jwks", nil, wantInsecure},
	{"SIDECAR_INTROSPECTION_AUTH", "Bearer", nil, "must be bearer, client_assertion, client_secret_basic, client_secret_post, tls_client_auth or none"},
	{"SIDECAR_INTROSPECTION_AUTH", "", nil, "must be bearer, client_assertion, client_secret_basic, client_secret_post, tls_client_auth or none"},

	{"SIDECAR_BEARER_TOKEN_FILE", "/t", nil, ""},
	{"SIDECAR_BEARER_TOKEN_FILE", "", nil, "is required with SIDECAR_INTROSPECTION_AUTH=bearer, or SIDECAR_CLIENT_ID with a secret or key to get a token at SIDECAR_TOKEN_ENDPOINT"},
	{"SIDECAR_BEARER_TOKEN_FILE", "", grantWith("SIDECAR_CLIENT_KEY_FILE", "/k"), ""},
	{"SIDECAR_CLIENT_KEY_FILE", "/k", nil, ""},
	{"SIDECAR_CLIENT_KEY_FILE", "", grantWith(), "or SIDECAR_CLIENT_SECRET_FILE must be set to obtain a bearer token"},
	{"SIDECAR_CLIENT_KEY_FILE", "/k", grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s"), ""},
	{"SIDECAR_CLIENT_SECRET_FILE", "/s", grantWith(), ""},
	{"SIDECAR_CLIENT_ID", "", grantWith("SIDECAR_CLIENT_KEY_FILE", "/k"), "is required to get a bearer token"},
	{"SIDECAR_CLIENT_ID", "fhir-server", nil, ""},
	{"SIDECAR_TOKEN_ENDPOINT", "", grantWith("SIDECAR_CLIENT_KEY_FILE", "/k"), "is required to get a bearer token, or SIDECAR_ISSUER_URL to discover it"},
	{"SIDECAR_TOKEN_ENDPOINT", "", grantWith("SIDECAR_CLIENT_KEY_FILE", "/k", "SIDECAR_ISSUER_URL", "https://as.example"), ""},
	{"SIDECAR_TOKEN_ENDPOINT", "", grantWith("SIDECAR_CLIENT_KEY_FILE", "/k", "SIDECAR_DISCOVERY_ALLOWED_HOSTS", "as.example"), ""},
	{"SIDECAR_CLIENT_KEY_ID", "2026-1", nil, ""},
	{"SIDECAR_TOKEN_SCOPE", "system/*.rs introspect", nil, ""},
	{"SIDECAR_CLIENT_ASSERTION_ALG", "RS256", nil, ""},
	{"SIDECAR_CLIENT_ASSERTION_ALG", "EdDSA", nil, ""},
	{"SIDECAR_CLIENT_ASSERTION_ALG", "none", nil, wantAlgorithm},
	{"SIDECAR_CLIENT_ASSERTION_ALG", "HS256", nil, wantAlgorithm},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "introspection", nil, ""},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "https://as.example/", nil, ""},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "urn:example:as", nil, ""},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "Token", nil, "must be introspection, token, issuer or a URL"},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "as.example/token", nil, "must be introspection, token, issuer or a URL"},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "token", nil, "SIDECAR_TOKEN_ENDPOINT: is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=token"},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "token", []string{"SIDECAR_TOKEN_ENDPOINT", "https://as.example/token"}, ""},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "token", []string{"SIDECAR_ISSUER_URL", "https://as.example"}, ""},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "issuer", nil, "SIDECAR_ISSUER_URL: is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=issuer"},
	{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", "issuer", []string{"SIDECAR_ISSUER_URL", "https://as.example"}, ""},

	{"SIDECAR_REQUIRED_AUDIENCES", "", nil, wantItems},
	{"SIDECAR_REQUIRED_AUDIENCES", ",", nil, wantItems},
	{"SIDECAR_REQUIRED_ISSUERS", " ", nil, wantItems},
	{"SIDECAR_REQUIRED_SCOPES", " , ", nil, wantItems},
	{"SIDECAR_REQUIRED_TOKEN_TYPES", ",,", nil, wantItems},

	{"SIDECAR_CA_FILE", "/ca", nil, ""},
	{"SIDECAR_CLIENT_CERT_FILE", "/c", []string{"SIDECAR_CLIENT_CERT_KEY_FILE", "/k"}, ""},
	{"SIDECAR_CLIENT_CERT_FILE", "/c", nil, "SIDECAR_CLIENT_CERT_KEY_FILE: is required with SIDECAR_CLIENT_CERT_FILE"},
	{"SIDECAR_CLIENT_CERT_KEY_FILE", "/k", nil, "SIDECAR_CLIENT_CERT_FILE: is required with SIDECAR_CLIENT_CERT_KEY_FILE"},
	{"SIDECAR_CLIENT_CERT_KEY_FILE", "/k", []string{"SIDECAR_CLIENT_CERT_FILE", "/c"}, ""},
	{"SIDECAR_TLS_CERT_FILE", "/c", []string{"SIDECAR_TLS_KEY_FILE", "/k"}, ""},
	{"SIDECAR_TLS_CERT_FILE", "/c", nil, "SIDECAR_TLS_KEY_FILE: is required with SIDECAR_TLS_CERT_FILE"},
	{"SIDECAR_TLS_KEY_FILE", "/k", nil, "SIDECAR_TLS_CERT_FILE: is required with SIDECAR_TLS_KEY_FILE"},
	{"SIDECAR_TLS_KEY_FILE", "/k", []string{"SIDECAR_TLS_CERT_FILE", "/c"}, ""},

	{"SIDECAR_MAX_INTROSPECTIONS", "1", nil, ""},
	{"SIDECAR_MAX_INTROSPECTIONS", "10000", nil, ""},
	{"SIDECAR_MAX_INTROSPECTIONS", "0", nil, "must be from 1 to 10000"},
	{"SIDECAR_MAX_INTROSPECTIONS", "10001", nil, "must be from 1 to 10000"},
	{"SIDECAR_MAX_INTROSPECTIONS", "many", nil, "must be a whole number"},
	{"SIDECAR_MAX_INTROSPECTIONS", "6.4e1", nil, "must be a whole number"},
	{"SIDECAR_MAX_INTROSPECTIONS", "99999999999999999999", nil, "must be a whole number"},
	{"SIDECAR_MAX_INTROSPECTIONS", "010", nil, "must be a whole number"},
	{"SIDECAR_MAX_INTROSPECTIONS", "0x10", nil, "must be a whole number"},
	{"SIDECAR_MAX_INTROSPECTIONS", "1_000", nil, "must be a whole number"},
	{"SIDECAR_CACHE_MAX_ENTRIES", "1", nil, ""},
	{"SIDECAR_CACHE_MAX_ENTRIES", "10000000", nil, ""},
	{"SIDECAR_CACHE_MAX_ENTRIES", "-1", nil, "must be from 1 to 10000000"},
	{"SIDECAR_CACHE_MAX_ENTRIES", "10000001", nil, "must be from 1 to 10000000"},
	{"SIDECAR_MAX_TOKEN_BYTES", "1", nil, ""},
	{"SIDECAR_MAX_TOKEN_BYTES", "1048576", nil, ""},
	{"SIDECAR_MAX_TOKEN_BYTES", "0", nil, "must be from 1 to 1048576"},
	{"SIDECAR_MAX_TOKEN_BYTES", "1048577", nil, "must be from 1 to 1048576"},

	{"SIDECAR_INTROSPECTION_TIMEOUT", "1ms", nil, ""},
	{"SIDECAR_INTROSPECTION_TIMEOUT", "24h", nil, ""},
	{"SIDECAR_INTROSPECTION_TIMEOUT", "0", nil, "must be from 1ms to 24h"},
	{"SIDECAR_INTROSPECTION_TIMEOUT", "-1s", nil, "must be from 1ms to 24h"},
	{"SIDECAR_INTROSPECTION_TIMEOUT", "2562047h", nil, "must be from 1ms to 24h"},
	{"SIDECAR_INTROSPECTION_TIMEOUT", "2", nil, wantUnit},
	{"SIDECAR_UPSTREAM_HEADER_TIMEOUT", "1ms", nil, ""},
	{"SIDECAR_UPSTREAM_HEADER_TIMEOUT", "999us", nil, "must be from 1ms to 24h"},
	{"SIDECAR_UPSTREAM_HEADER_TIMEOUT", "24h1s", nil, "must be from 1ms to 24h"},
	{"SIDECAR_SHUTDOWN_DELAY", "0", nil, ""},
	{"SIDECAR_SHUTDOWN_DELAY", "-1ns", nil, "must be from 0s to 24h"},
	{"SIDECAR_SHUTDOWN_DELAY", "25h", nil, "must be from 0s to 24h"},
	{"SIDECAR_SHUTDOWN_TIMEOUT", "0", nil, ""},
	{"SIDECAR_SHUTDOWN_TIMEOUT", "-1ns", nil, "must be from 0s to 24h"},
	{"SIDECAR_SHUTDOWN_TIMEOUT", "25h", nil, "must be from 0s to 24h"},
	{"SIDECAR_CLOCK_SKEW", "0", nil, ""},
	{"SIDECAR_CLOCK_SKEW", "5m", nil, ""},
	{"SIDECAR_CLOCK_SKEW", "-1ns", nil, "must be from 0s to 5m"},
	{"SIDECAR_CLOCK_SKEW", "5m1ns", nil, "must be from 0s to 5m"},
	{"SIDECAR_CACHE_MAX_AGE", "0", nil, ""},
	{"SIDECAR_CACHE_MAX_AGE", "2562047h", nil, ""},
	{"SIDECAR_CACHE_MAX_AGE", "-1ns", nil, "must not be negative"},
	{"SIDECAR_CACHE_NO_EXP_AGE", "0", nil, ""},
	{"SIDECAR_CACHE_NO_EXP_AGE", "-1ns", nil, "must not be negative"},
	{"SIDECAR_CACHE_INACTIVE_AGE", "0", nil, ""},
	{"SIDECAR_CACHE_INACTIVE_AGE", "-1ns", nil, "must not be negative"},

	{"SIDECAR_REQUIRED_AUDIENCES", "https://fhir.example/fhir, other", nil, ""},
	{"SIDECAR_REQUIRED_ISSUERS", "https://as.example", nil, ""},
	{"SIDECAR_REQUIRED_TOKEN_TYPES", "Bearer", nil, ""},
	{"SIDECAR_REQUIRED_SCOPES", "system/*.rs,launch/patient", nil, ""},
	{"SIDECAR_REQUIRED_SCOPES", "patient/Patient.rs?category=http://a|b", nil, ""},
	{"SIDECAR_REQUIRED_SCOPES", "launch openid", nil, ""},
	{"SIDECAR_REQUIRED_SCOPES", `a"b`, nil, wantScopes},
	{"SIDECAR_REQUIRED_SCOPES", `a\b`, nil, wantScopes},
	{"SIDECAR_REQUIRED_SCOPES", "a,\x7f,b c", nil, wantScopes},
	{"SIDECAR_JWT_PRECHECK", "false", nil, ""},
	{"SIDECAR_JWT_PRECHECK", "true", nil, "SIDECAR_ISSUER_URL: is required with SIDECAR_JWT_PRECHECK=true"},
	{"SIDECAR_JWT_PRECHECK", "true", []string{"SIDECAR_ISSUER_URL", "https://as.example"}, ""},
	{"SIDECAR_JWT_PRECHECK", "maybe", nil, "must be true or false"},
	{"SIDECAR_SCOPE_ENFORCEMENT", "off", nil, ""},
	{"SIDECAR_SCOPE_ENFORCEMENT", "coarse", nil, ""},
	{"SIDECAR_SCOPE_ENFORCEMENT", "fine", nil, "must be off, report, coarse or strict"},

	{"SIDECAR_HEADER_PREFIX", "X-Authorization-", nil, ""},
	{"SIDECAR_HEADER_PREFIX", "launch-", nil, ""},
	{"SIDECAR_HEADER_PREFIX", "", nil, wantPrefix},
	{"SIDECAR_HEADER_PREFIX", "X-Launch", nil, wantPrefix},
	{"SIDECAR_HEADER_PREFIX", "X_Launch-", nil, wantPrefix},
	{"SIDECAR_HEADER_PREFIX", "X-Launch\r\n-", nil, wantPrefix},
	{"SIDECAR_HEADER_PREFIX", "X-", nil, "would take in the header X-Content-Type-Options"},
	{"SIDECAR_HEADER_PREFIX", "X-Forwarded-", nil, "would take in the header X-Forwarded-For"},
	{"SIDECAR_HEADERS", "none", nil, ""},
	{"SIDECAR_HEADERS", "", nil, wantNone},
	{"SIDECAR_HEADERS", "patient,none", nil, wantAlone},
	{"SIDECAR_HEADERS", "aud, jti ,username,resource,definition", nil, ""},
	{"SIDECAR_HEADERS", "user,fhirUser,client_id,azp", nil, ""},
	{"SIDECAR_HEADERS", "patient,Patient", nil, wantClaims},
	{"SIDECAR_HEADERS", "patient encounter", nil, wantClaims},
	{"SIDECAR_EXTRA_HEADERS", "Organization=organization, Care-Team=https://claims.example/team", nil, ""},
	{"SIDECAR_EXTRA_HEADERS", "", nil, wantItems},
	{"SIDECAR_EXTRA_HEADERS", "organization", nil, "must be Name=claim, such as Organization=organization"},
	{"SIDECAR_EXTRA_HEADERS", "Organization=", nil, "must be Name=claim, such as Organization=organization"},
	{"SIDECAR_EXTRA_HEADERS", "Organization=a b", nil, "must be Name=claim, such as Organization=organization"},
	{"SIDECAR_EXTRA_HEADERS", "=organization", nil, wantExtra},
	{"SIDECAR_EXTRA_HEADERS", "Org_1=organization", nil, wantExtra},
	{"SIDECAR_EXTRA_HEADERS", "-Org=organization", nil, wantExtra},
	{"SIDECAR_EXTRA_HEADERS", "patient=organization", nil, "is the name of another context header"},
	{"SIDECAR_EXTRA_HEADERS", "Token-Id=organization", nil, "is the name of another context header"},
	{"SIDECAR_EXTRA_HEADERS", "A=x,a=y", nil, "has a name twice"},
	{"SIDECAR_CLAIM_ALIASES", "patient=launch_response_patient,user=practitioner", nil, ""},
	{"SIDECAR_CLAIM_ALIASES", "patient", nil, wantAlias},
	{"SIDECAR_CLAIM_ALIASES", "patient=", nil, wantAlias},
	{"SIDECAR_CLAIM_ALIASES", "patients=x", nil, wantAliased},
	{"SIDECAR_CLAIM_ALIASES", "active=x", nil, wantAliased},
	{"SIDECAR_CLAIM_ALIASES", "user=a,fhirUser=b", nil, "has a claim twice"},
	{"SIDECAR_UPSTREAM_AUTHORIZATION", "strip", nil, ""},
	{"SIDECAR_UPSTREAM_AUTHORIZATION", "", nil, "must be forward or strip"},
	{"SIDECAR_UPSTREAM_AUTHORIZATION", "Forward", nil, "must be forward or strip"},
	{"SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8,192.0.2.7/32", nil, ""},
	{"SIDECAR_TRUSTED_PROXIES", "10.0.0.1", nil, "must be CIDRs, such as 10.1.0.0/16"},
	{"SIDECAR_TRUSTED_PROXIES", "10.0.0.0/33,x", nil, "must be CIDRs, such as 10.1.0.0/16"},
	{"SIDECAR_TRUSTED_PROXIES", "0.0.0.0/0", nil, "must not trust every address: anyone could forge X-Forwarded-For"},
	{"SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8,::/0", nil, "must not trust every address: anyone could forge X-Forwarded-For"},
	{"SIDECAR_TRUSTED_PROXIES", "::ffff:10.0.0.0/104", nil, "must not write IPv4 addresses as IPv6: they would match nobody"},
	{"SIDECAR_PUBLIC_PATHS", "none", nil, ""},
	{"SIDECAR_PUBLIC_PATHS", "", nil, wantNone},
	{"SIDECAR_PUBLIC_PATHS", ",", nil, wantNone},
	{"SIDECAR_PUBLIC_PATHS", "none,metadata", nil, wantAlone},
	{"SIDECAR_PUBLIC_PATHS", "metadata,Questionnaire/intake", nil, ""},
	{"SIDECAR_PUBLIC_PATHS", "/metadata", nil, wantPaths},
	{"SIDECAR_PUBLIC_PATHS", "metadata/", nil, wantPaths},
	{"SIDECAR_PUBLIC_PATHS", "metadata?mode=full", nil, wantPaths},
	{"SIDECAR_PUBLIC_PATHS", "a/../Patient", nil, "must not have dot segments, empty segments, parameters or encoded separators"},
	{"SIDECAR_PUBLIC_PATHS", "a%2fb", nil, "must not have dot segments, empty segments, parameters or encoded separators"},

	{"SIDECAR_AUDIT_LOG", "off", nil, ""},
	{"SIDECAR_AUDIT_LOG", "stdout", nil, ""},
	{"SIDECAR_AUDIT_LOG", "/var/log/audit.json", nil, ""},
	{"SIDECAR_AUDIT_LOG", "audit.json", nil, ""},
	{"SIDECAR_AUDIT_LOG", "/dev/stderr", nil, ""},
	{"SIDECAR_AUDIT_LOG", "./stdout", nil, ""},
	{"SIDECAR_AUDIT_LOG", "", nil, wantAuditLog},
	{"SIDECAR_AUDIT_LOG", "STDOUT", nil, wantAuditLog},
	{"SIDECAR_AUDIT_LOG", "stderr", nil, wantAuditLog},
	{"SIDECAR_AUDIT_LOG", "Off", nil, wantAuditLog},
	{"SIDECAR_AUDIT_LOG", "false", nil, wantAuditLog},
	{"SIDECAR_AUDIT_LOG", "none", nil, wantAuditLog},
	{"SIDECAR_AUDIT_LOG", "-", nil, wantAuditLog},
	{"SIDECAR_ADMIN_TOKEN_FILE", "", nil, ""},
	{"SIDECAR_ADMIN_TOKEN_FILE", "/t", nil, ""},
	{"SIDECAR_ADMIN_TLS", "true", []string{"SIDECAR_TLS_CERT_FILE", "/c", "SIDECAR_TLS_KEY_FILE", "/k"}, ""},
	{"SIDECAR_ADMIN_TLS", "true", nil, "needs SIDECAR_TLS_CERT_FILE: the admin listener uses the data listener's certificate"},
	{"SIDECAR_HTTP2", "false", nil, ""},
	{"SIDECAR_HTTP2", "off", nil, "must be true or false"},
	{"SIDECAR_FAST_PATH", "false", nil, ""},
	{"SIDECAR_FAST_PATH", "maybe", nil, "must be true or false"},
	{"SIDECAR_BYPASS_GUARD", "off", nil, ""},
	{"SIDECAR_BYPASS_GUARD", "enforce", nil, ""},
	{"SIDECAR_BYPASS_GUARD", "on", nil, "must be off, warn or enforce"},
	{"SIDECAR_MAX_CONNECTIONS", "5000", nil, ""},
	{"SIDECAR_MAX_CONNECTIONS", "-1", nil, "must be from 0 to 1000000"},
	{"SIDECAR_STALL_TIMEOUT", "5m", nil, ""},
	{"SIDECAR_STALL_TIMEOUT", "0s", nil, "must be from 1s to 24h"},
	{"SIDECAR_IDLE_TIMEOUT", "350s", nil, ""},
	{"SIDECAR_IDLE_TIMEOUT", "0s", nil, "must be from 1s to 24h"},
	{"SIDECAR_IDLE_TIMEOUT", "350", nil, wantUnit},
	{"SIDECAR_LOG_FORMAT", "text", nil, ""},
	{"SIDECAR_LOG_FORMAT", "logfmt", nil, "must be json or text"},
	{"SIDECAR_LOG_LEVEL", "debug", nil, ""},
	{"SIDECAR_LOG_LEVEL", "error", nil, ""},
	{"SIDECAR_LOG_LEVEL", "INFO", nil, "must be debug, info, warn or error"},
	{"SIDECAR_LOG_LEVEL", "", nil, "must be debug, info, warn or error"},
})

const (
	wantInsecure  = "must be https, or http to a loopback address; tokens would cross the network readable (SIDECAR_ALLOW_INSECURE_HTTP=true allows it)"
	wantEndpoint  = "is required, or SIDECAR_ISSUER_URL or SIDECAR_DISCOVERY_ALLOWED_HOSTS to discover it: a document that names it says where every token goes, so that it is believed for known hosts only"
	wantHosts     = "must be hosts, such as as.example.org or as.example.org:8443"
	wantScopes    = "must be scopes separated by commas or spaces, without quotes and backslashes"
	wantPrefix    = "must be letters, digits and single dashes and end with a dash, like X-Launch-"
	wantClaims    = "has a claim that is not one of patient encounter user sub iss client_id exp intent tenant username jti resource definition aud fhirContext scope"
	wantExtra     = "must be Name=claim, the name of letters, digits and single dashes, such as Organization=organization"
	wantAlias     = "must be claim=member, such as patient=launch_response_patient"
	wantAliased   = "has a claim that is not one of scope client_id username token_type sub aud iss jti exp patient encounter fhirUser fhirContext intent tenant resource definition"
	wantAuditLog  = "must be off, stdout or a file, such as /var/log/audit.json"
	wantAlgorithm = "must be RS256, RS384, RS512, PS256, PS384, ES256, ES384 or EdDSA"
	wantItems     = "is set and names nothing; leave it out if that is meant"
	wantNone      = "is set and names nothing; write none if that is meant, or leave it out for the default"
	wantAlone     = "must be none alone, or a list without it"
	wantUnit      = "must be a duration with a unit, such as 2s or 500ms: the unit is missing"
	wantPaths     = "must be paths below the base, without a slash at either end and without a query; a * stands only in /* at the end"
)

// grantWith is the client credentials grant in place of a token file.
func grantWith(pairs ...string) []string {
	return append([]string{
		"SIDECAR_BEARER_TOKEN_FILE", "", "SIDECAR_TOKEN_ENDPOINT", "https://as.example/token", "SIDECAR_CLIENT_ID", "fhir-server",
	}, pairs...)
}

// TestSettings: M09: an address that is none ends the start.
func TestSettings(t *testing.T) {
	for _, tt := range settingTests {
		t.Run(strings.TrimPrefix(tt.variable, Prefix+"_")+"="+tt.value, func(t *testing.T) {
			var want []string
			switch {
			case strings.HasPrefix(tt.want, Prefix+"_"):
				want = []string{tt.want}
			case tt.want != "":
				want = []string{tt.variable + ": " + tt.want}
			}
			got := texts(configure(t, with(with(leastSettings(), tt.beside...), tt.variable, tt.value)).Faults)
			if !slices.Equal(got, want) {
				t.Errorf("faults %q, want %q", got, want)
			}
		})
	}
}

// TestSettingsComplete: no setting without a value that it takes, and none
// without one that it refuses, where there is such a one.
func TestSettingsComplete(t *testing.T) {
	anyText := []string{
		"SIDECAR_CLIENT_KEY_ID", "SIDECAR_TOKEN_SCOPE", "SIDECAR_REQUIRED_AUDIENCES", "SIDECAR_REQUIRED_ISSUERS",
		"SIDECAR_REQUIRED_TOKEN_TYPES", "SIDECAR_CA_FILE", "SIDECAR_SHARED_CACHE_CA_FILE", "SIDECAR_CLIENT_SECRET_FILE", "SIDECAR_ADMIN_TOKEN_FILE",
		"SIDECAR_SMART_CONFIGURATION_FILE", "SIDECAR_SMART_CAPABILITIES", "SIDECAR_SMART_SCOPES", "SIDECAR_RESOURCE_NAME", "SIDECAR_AUDIT_OBSERVER",
	}
	for _, name := range Variables() {
		var takes, refuses bool
		for _, tt := range settingTests {
			takes = takes || tt.variable == name && tt.want == ""
			refuses = refuses || tt.variable == name && tt.want != ""
		}
		if !takes || !refuses && !slices.Contains(anyText, name) {
			t.Errorf("%s: takes %t, refuses %t, want both", name, takes, refuses)
		}
	}
}

// TestSettingsValues: what comes out of the checks is what the packages take.
func TestSettingsValues(t *testing.T) {
	s := configure(t, with(leastSettings(),
		"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}/",
		"SIDECAR_TRUSTED_PROXIES", "10.1.2.3/8,fd00::1/8",
		"SIDECAR_LOG_LEVEL", "warn"))
	if len(s.Faults) > 0 {
		t.Fatalf("got faults %v, want none", s.Faults)
	}
	if s.Upstream.Host != "127.0.0.1:8080" || s.Upstream.Path != "/fhir/{tenant}/" {
		t.Errorf("got upstream %v, want the one that was set", s.Upstream)
	}
	var trusted []string
	for _, prefix := range s.TrustedPrefixes {
		trusted = append(trusted, prefix.String())
	}
	if !slices.Equal(trusted, []string{"10.0.0.0/8", "fd00::/8"}) {
		t.Errorf("got trusted %v, want 10.0.0.0/8 and fd00::/8", trusted)
	}
	if s.Level.String() != "WARN" {
		t.Errorf("got level %v, want WARN", s.Level)
	}
}

// FuzzConfig: whatever the operator sets, checking it ends, tells the same twice,
// and lets no URL through that could go elsewhere than it says.
func FuzzConfig(f *testing.F) {
	for _, tt := range settingTests {
		f.Add(tt.value)
	}
	for _, seed := range []string{
		"http://a\\b", "http://a@b", "http://%61", "http://a:1@b:2/", "https://[::1", "http://h%C3%A9/", "http://127.0.0.1:80:80",
		"http://a/{tenant}/{tenant}", "http://\x00", "//a", "http://a?#", "0x7f000001", "::ffff:0:0/96", "a,,b",
	} {
		f.Add(seed)
	}
	known := Variables()
	f.Fuzz(func(t *testing.T, raw string) {
		checkParsedURL(t, raw)
		validate := func() *Config {
			list := strings.Split(raw, ",")
			c := &Settings{
				UpstreamURL: raw, ListenAddress: raw, AdminAddress: raw, IntrospectionEndpoint: raw, IssuerURL: raw,
				TokenEndpoint: raw, DiscoveryAllowedHosts: list, IntrospectionAuth: raw, ClientAssertionAlg: raw,
				ClientAssertionAudience: raw, RequiredScopes: list, ScopeEnforcement: raw, HeaderPrefix: raw, Headers: list,
				UpstreamAuthorization: raw, TrustedProxies: list, PublicPaths: list, AuditLog: raw, LogLevel: raw,
			}
			return c.validate(rules, nil)
		}
		s := validate()
		if !slices.Equal(s.Faults, validate().Faults) {
			t.Errorf("%q: got other faults the second time, want the same", raw)
		}
		for _, f := range s.Faults {
			if strings.ContainsAny(f.String(), "\r\n") || !slices.Contains(known, f.Variable) {
				t.Errorf("%q: got fault %q, want one line that names a setting", raw, f)
			}
		}
		for _, prefix := range s.TrustedPrefixes {
			if prefix.Bits() == 0 {
				t.Errorf("%q trusts everybody, want a fault", raw)
			}
		}
		if u, err := parseURL(raw); err == nil && u.Scheme == "http" && !transport.IsLoopback(u.Hostname()) && !slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Variable == "SIDECAR_TOKEN_ENDPOINT" }) {
			t.Errorf("%q: got no fault, want one: tokens would cross the network readable", raw)
		}
	})
}

func checkParsedURL(t *testing.T, raw string) {
	t.Helper()
	u, err := parseURL(raw)
	if err != nil {
		if u != nil {
			t.Errorf("%q: got a URL beside the error, want none", raw)
		}
		return
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		t.Errorf("%q: got %#v, want http or https, a host and nothing else", raw, u)
	}
	if strings.ContainsAny(u.Host, "/\\@ ?#%\r\n\x00") {
		t.Errorf("%q: got host %q, want a host", raw, u.Host)
	}
	again, err := url.Parse(u.String())
	if err != nil || again.Host != u.Host || again.Scheme != u.Scheme || again.EscapedPath() != u.EscapedPath() {
		t.Errorf("%q: got another URL, %q (%v), when it is written out, want the same", raw, u, err)
	}
}
