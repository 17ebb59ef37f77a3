package main

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// tokenKind is what a request has for a token.
type tokenKind int

const (
	opaque tokenKind = iota
	jwt
	junk
	missing
)

// opaqueFormat makes the n-th opaque token, 62 characters of it.
const opaqueFormat = "bench-token-%06d-0123456789abcdefghijklmnopqrstuvwxyzABCDEF"

// junkFormat makes tokens that the introspection endpoint calls inactive.
const junkFormat = "bench-junk-%06d-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

// format makes the n-th token of a kind, as printf does.
func (k tokenKind) format() string {
	switch k {
	case jwt:
		return jwtFormat()
	case junk, missing:
		return junkFormat
	default:
		return opaqueFormat
	}
}

func (k tokenKind) token(n int) string { return fmt.Sprintf(k.format(), n) }

// jwtFormat is an access token of RFC 9068 with 900 characters. Only the signature, which
// nobody here checks, tells one token from the other.
func jwtFormat() string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := `{"iss":"https://as.example.org","aud":"https://fhir.example.org","exp":4102444800,` +
		`"scope":"launch openid fhirUser patient/Patient.rs patient/Task.cruds","note":"%s"}`
	head := encode([]byte(`{"alg":"RS256","typ":"at+jwt","kid":"bench"}`)) + "."
	signature := "." + strings.Repeat("s", 336)
	spare := (900 - len(head) - len(signature) - 6) * 3 / 4
	padded := fmt.Sprintf(claims, strings.Repeat("n", spare-len(claims)+2))
	return head + encode([]byte(padded)) + signature + "%06d"
}

// number returns which token of its kind this is, or false for one that nobody issued.
func number(token string) (n int, ok bool) {
	if _, err := fmt.Sscanf(token, "bench-token-%d-", &n); err == nil {
		return n, token == opaque.token(n)
	}
	if len(token) < 800 {
		return 0, false
	}
	if _, err := fmt.Sscanf(token[len(token)-6:], "%06d", &n); err != nil {
		return 0, false
	}
	return n, token == jwt.token(n)
}

// replaceToken puts the first token into a request.
func replaceToken(text []byte) []byte {
	return []byte(strings.Replace(string(text), "TOKEN", opaque.token(1), 1))
}

// isOK reports whether a response begins with 200.
func isOK(response []byte) bool { return strings.HasPrefix(string(response), "HTTP/1.1 200") }
