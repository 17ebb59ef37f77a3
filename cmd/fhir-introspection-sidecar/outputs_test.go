package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// What the program gives to those who run it, as the tests read it.

// root is the repository's, seen from this package.
var root = filepath.Join("..", "..")

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitConfig  = 2
)

const adminToken = "a-token-of-an-admin"

func hexDigest(token string) string {
	digest := sha256.Sum256([]byte(token))
	return hex.EncodeToString(digest[:])
}

// auditLine is a record as it is written.
type auditLine struct {
	introspectiontest.AuditHead
	proxy.AuditRecord
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	return string(content)
}

// privateMember is one of RFC 7518 §6 that only the owner of a key may know.
var privateMember = regexp.MustCompile(`"(d|p|q|dp|dq|qi|oth|k)"\s*:`)

// publishedKeys reads a key set, checks that it is a public one, and returns
// the key ids in their order.
func publishedKeys(t *testing.T, raw string) (kids []string) {
	t.Helper()
	if member := privateMember.FindString(raw); member != "" {
		t.Fatalf("got a private %s, want public members only", member)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(raw), &set); err != nil {
		t.Fatalf("got %s (%v), want a JWK Set", raw, err)
	}
	for _, key := range set.Keys {
		if !key.IsPublic() || !key.Valid() || key.Use != "sig" || key.Algorithm == "" {
			t.Errorf("got key %s, want a valid public one for signatures", raw)
		}
		kids = append(kids, key.KeyID)
	}
	return kids
}
