package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Section 7: forgetting verdicts needs the admin bearer.
func TestBlackboxPurge(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	e := env{
		"UPSTREAM_URL": "http://" + up.address + "/fhir", "LISTEN_ADDRESS": "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0",
		"INTROSPECTION_ENDPOINT": as.Endpoint(), "BEARER_TOKEN_FILE": writeFile(t, "b", introspectiontest.DefaultBearer), "ADMIN_TOKEN_FILE": writeFile(t, "a", "admin-secret-0123456789\n"),
	}
	c := spawn(t, e, nil)
	c.awaitServing(t)
	const admin = "Authorization: Bearer admin-secret-0123456789"
	if a := exchange(t, c.admin, request("DELETE /cache")); a.status != 401 {
		t.Errorf("without bearer: got %d, want 401", a.status)
	}
	if a := exchange(t, c.admin, request("DELETE /cache", bearer("good"))); a.status != 401 && a.status != 403 {
		t.Errorf("with another bearer: got %d, want 401 or 403", a.status)
	}
	for _, query := range []string{"", "?sub=p-42", "?client_id=module-7", "?patient=123", fmt.Sprintf("?token_sha256=%x", sha256.Sum256([]byte("good")))} {
		c.ask(t, "GET /fhir/Patient", good).is(t, 200)
		before := as.Introspections()
		if a := exchange(t, c.admin, request("DELETE /cache"+query, admin)); a.status != 200 || !strings.Contains(strings.ReplaceAll(a.body, " ", ""), `"purged":1`) {
			t.Errorf("%s: got %d %s, want 200 and one purged", query, a.status, a.body)
		}
		c.ask(t, "GET /fhir/Patient", good).is(t, 200)
		if as.Introspections() != before+1 {
			t.Errorf("%s: got the verdict that was kept, want another introspection", query)
		}
		if a := exchange(t, c.admin, request("DELETE /cache?sub=nobody", admin)); !strings.Contains(strings.ReplaceAll(a.body, " ", ""), `"purged":0`) {
			t.Errorf("nobody: got %s, want none purged", a.body)
		}
	}
	if _, err := os.Stat("cache"); err == nil {
		t.Error("something was written, want nothing")
	}
}
