package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

type signer struct {
	pem    string
	verify func(signed, signature []byte) bool
}

func rsaKey(t *testing.T) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("rsa.GenerateKey: got error %v, want none", err)
	}
	return signer{toPEM(t, key), func(signed, signature []byte) bool {
		sum := sha512.Sum384(signed)
		return rsa.VerifyPKCS1v15(&key.PublicKey, 6 /* crypto.SHA384 */, sum[:], signature) == nil
	}}
}

func ecKey(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatalf("ecdsa.GenerateKey: got error %v, want none", err)
	}
	return signer{toPEM(t, key), func(signed, signature []byte) bool {
		sum := sha512.Sum384(signed)
		half := len(signature) / 2
		return half == 48 && ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
	}}
}

func toPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("x509.MarshalPKCS8PrivateKey: got error %v, want none", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// jws is a JWT whose signature nobody made.
func jws(header, payload map[string]any) string {
	segment := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return segment(header) + "." + segment(payload) + ".c2lnbmF0dXJl"
}

// unsigned is shaped like a JWT with these claims.
func unsigned(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte(canary))
}

// sign makes a token with these claims, signed as Koppeltaal's server does.
func sign(t *testing.T, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	return signWith(t, jose.RS512, key, "as", claims)
}

// signWith makes a token with these claims.
func signWith(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatalf("jose.NewSigner: got error %v, want none", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatalf("Claims: got error %v, want none", err)
	}
	return token
}
