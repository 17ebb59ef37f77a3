package smart_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

func ExampleResourceMetadataURL() {
	fmt.Println(smart.ResourceMetadataURL("https://fhir.example.org/fhir/R4"))
	fmt.Println(smart.ResourceMetadataURL("https://fhir.example.org"))
	// Output:
	// https://fhir.example.org/.well-known/oauth-protected-resource/fhir/R4
	// https://fhir.example.org/.well-known/oauth-protected-resource
}

func document(t *testing.T, s smart.WellKnown) map[string]any {
	t.Helper()
	raw, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

const keycloak = `{"issuer":"https://as/realms/a","authorization_endpoint":"https://as/auth","token_endpoint":"https://as/token",
	"introspection_endpoint":"https://internal/introspect","userinfo_endpoint":"https://as/userinfo","jwks_uri":"https://as/jwks",
	"revocation_endpoint":"https://as/revoke","grant_types_supported":["authorization_code","client_credentials"],
	"response_types_supported":["code"],"scopes_supported":["openid"],"code_challenge_methods_supported":["plain","S256"],
	"token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_basic"],"unknown":1}`

func TestSMART(t *testing.T) {
	got := document(t, smart.WellKnown{Metadata: []byte(keycloak), Capabilities: []string{"launch-ehr", "permission-v2"}, Scopes: []string{"openid", "user/*.rs"}})
	want := map[string]any{
		"issuer": "https://as/realms/a", "jwks_uri": "https://as/jwks", "authorization_endpoint": "https://as/auth", "token_endpoint": "https://as/token",
		"revocation_endpoint": "https://as/revoke", "grant_types_supported": []any{"authorization_code", "client_credentials"},
		"response_types_supported": []any{"code"}, "scopes_supported": []any{"openid", "user/*.rs"},
		"code_challenge_methods_supported": []any{"S256"}, "capabilities": []any{"launch-ehr", "permission-v2"},
		"token_endpoint_auth_methods_supported": []any{"private_key_jwt", "client_secret_basic"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	got = document(t, smart.WellKnown{Metadata: []byte(keycloak)})
	if want := []any{"client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect"}; fmt.Sprint(got["capabilities"]) != fmt.Sprint(want) {
		t.Errorf("got capabilities %v, want those that the metadata proves, %v", got["capabilities"], want)
	}
	if fmt.Sprint(got["scopes_supported"]) != "[openid]" {
		t.Errorf("got scopes %v, want the issuer's", got["scopes_supported"])
	}
}

func TestSMARTOfSilentIssuer(t *testing.T) {
	const silent = `{"issuer":"https://as","token_endpoint":"https://as/token"}`
	got := document(t, smart.WellKnown{Metadata: []byte(silent)})
	for _, name := range []string{"grant_types_supported", "token_endpoint", "capabilities", "code_challenge_methods_supported"} {
		if got[name] == nil {
			t.Errorf("no %s, which SMART requires: %v", name, got)
		}
	}
	raw, _ := (&smart.WellKnown{Metadata: []byte(silent)}).Document()
	if !smart.LacksS256(raw) {
		t.Errorf("S256 is claimed for an issuer that doesn't say so: %s", raw)
	}
	raw, _ = (&smart.WellKnown{Metadata: []byte(silent), Capabilities: []string{"launch-standalone"}}).Document()
	if smart.LacksS256(raw) {
		t.Errorf("got %s, want S256: apps can be launched", raw)
	}
	plain := smart.WellKnown{Metadata: []byte(`{"token_endpoint":"https://as/token","code_challenge_methods_supported":["plain"]}`), Capabilities: []string{"launch-ehr"}}
	if raw, _ := plain.Document(); !smart.LacksS256(raw) || strings.Contains(string(raw), "plain") {
		t.Errorf("got %s, want neither S256 nor plain", raw)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"token_endpoint":1}`} {
		if raw, err := (&smart.WellKnown{Metadata: []byte(bad)}).Document(); err == nil {
			t.Errorf("made %s of %q, want an error", raw, bad)
		}
	}
}

func TestCheckSMART(t *testing.T) {
	const good = `{"grant_types_supported":["authorization_code"],"token_endpoint":"https://as/token","capabilities":[],"code_challenge_methods_supported":["S256"],"own":true}`
	if err := smart.CheckWellKnown([]byte(good)); err != nil {
		t.Errorf("a good document: %v", err)
	}
	for _, change := range [][2]string{
		{`"S256"`, `"plain"`},
		{`"S256"`, `"S256","plain"`},
		{`"capabilities"`, `"x"`},
		{"https://as", "http://as"},
		{"https://as/token", ""},
		{`["S256"]`, `"S256"`},
		{`{`, `[`},
		{`"grant_types_supported"`, `"x"`},
		{`}`, `,"jwks_uri":"ftp://x"}`},
	} {
		if err := smart.CheckWellKnown([]byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%q for %q is taken, want a fault", change[1], change[0])
		}
	}
}

func TestResource(t *testing.T) {
	raw, err := smart.ResourceMetadata{Resource: "https://fhir.example.org/fhir", AuthorizationServers: []string{"https://as"}, Name: "FHIR"}.Document()
	const want = `{"resource":"https://fhir.example.org/fhir","authorization_servers":["https://as"],"bearer_methods_supported":["header"],"resource_name":"FHIR"}`
	if err != nil || !slices.Equal(raw, []byte(want)) {
		t.Errorf("got %s, %v, want %s", raw, err, want)
	}
}
