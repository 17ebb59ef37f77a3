package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of algorithms
	_ "crypto/sha512"
	"errors"
	"math/big"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// finding is what a key says about a token.
type finding int

const (
	unknown finding = iota // nothing: another key, or none that can be used here
	genuine                // it made the signature
	forged                 // it is the key that the token names, and didn't make the signature
)

// minRSABits is what crypto/rsa verifies with at least.
const minRSABits = 1024

// algorithm is a JWS algorithm (RFC 7518 §3, RFC 8037 §3.1).
type algorithm struct {
	hash  crypto.Hash
	curve int  // of ECDSA, in bits
	pss   bool // for RSA
}

// asymmetric returns the algorithm of that name, or false when it can't be verified
// here: it is newer than this program, symmetric, or none at all.
func asymmetric(name string) (algorithm, bool) {
	algorithms := map[string]algorithm{
		"RS256": {hash: crypto.SHA256}, "RS384": {hash: crypto.SHA384}, "RS512": {hash: crypto.SHA512},
		"PS256": {hash: crypto.SHA256, pss: true}, "PS384": {hash: crypto.SHA384, pss: true}, "PS512": {hash: crypto.SHA512, pss: true},
		"ES256": {hash: crypto.SHA256, curve: 256}, "ES384": {hash: crypto.SHA384, curve: 384}, "ES512": {hash: crypto.SHA512, curve: 521},
		"EdDSA": {}, "Ed25519": {},
	}
	a, ok := algorithms[name]
	return a, ok
}

// verify holds the signature of a token against a public key. With a kind of key or
// of algorithm that it doesn't know it says nothing.
func verify(key crypto.PublicKey, name, token string) finding {
	if strings.HasPrefix(name, "HS") {
		return forged // an HMAC that is called by the id of a public key (RFC 8725 §2.1)
	}
	a, ok := asymmetric(name)
	end := strings.LastIndexByte(token, '.')
	signature, isBase64 := introspection.DecodeJWTSegment(token[end+1:])
	if !ok || !isBase64 {
		return unknown
	}
	signed := []byte(token[:end])
	switch key := key.(type) {
	case *rsa.PublicKey:
		return a.verifyRSA(key, signed, signature)
	case *ecdsa.PublicKey:
		return a.verifyECDSA(key, signed, signature)
	case ed25519.PublicKey:
		return found(a.hash == 0 && ed25519.Verify(key, signed, signature))
	}
	return unknown
}

func found(valid bool) finding {
	if valid {
		return genuine
	}
	return forged
}

func (a algorithm) verifyRSA(key *rsa.PublicKey, signed, signature []byte) finding {
	if a.hash == 0 || a.curve != 0 {
		return forged
	}
	var err error
	if a.pss {
		err = rsa.VerifyPSS(key, a.hash, a.digest(signed), signature, nil)
	} else {
		err = rsa.VerifyPKCS1v15(key, a.hash, a.digest(signed), signature)
	}
	if err != nil && !errors.Is(err, rsa.ErrVerification) {
		return unknown // it is the key that isn't good
	}
	return found(err == nil)
}

func (a algorithm) verifyECDSA(key *ecdsa.PublicKey, signed, signature []byte) finding {
	bits := key.Curve.Params().BitSize
	size := (bits + 7) / 8
	if bits != a.curve || len(signature) != 2*size {
		return forged
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return found(ecdsa.Verify(key, a.digest(signed), r, s))
}

func (a algorithm) digest(signed []byte) []byte {
	h := a.hash.New()
	_, _ = h.Write(signed) // a hash takes everything
	return h.Sum(nil)
}
