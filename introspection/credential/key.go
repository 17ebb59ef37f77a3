package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// signingKey is a private key made ready to sign.
type signingKey struct {
	signer jose.Signer
	public jose.JSONWebKey
}

// parseSigningKey reads a private key. An empty id or algorithm comes from the
// key. The errors of the parsers quote what they read, so they go no further.
func parseSigningKey(content []byte, id string, algorithm jose.SignatureAlgorithm) (*signingKey, error) {
	private, err := parsePrivateKey(content)
	if err != nil {
		return nil, err
	}
	asked := algorithm != ""
	if !asked {
		algorithm = jose.SignatureAlgorithm(private.Algorithm)
	}
	if algorithm, err = fitAlgorithm(private.Key, algorithm); err != nil {
		var unfit *AlgorithmError
		if !asked && errors.As(err, &unfit) { // what stands in a file isn't shown
			return nil, transport.SafeText("is " + unfit.Key + ", which can't sign with the alg that it names")
		}
		return nil, err
	}
	public := private.Public()
	if id == "" {
		id = private.KeyID
	}
	if id == "" {
		thumbprint, err := public.Thumbprint(crypto.SHA256) // RFC 7638
		if err != nil {
			return nil, errNoKey
		}
		id = base64.RawURLEncoding.EncodeToString(thumbprint)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: private.Key, KeyID: id}},
		(&jose.SignerOptions{}).WithType("JWT"),
	)
	if err != nil {
		return nil, errNoKey
	}
	// A JWK may carry a d that doesn't belong to its x and y.
	if probe, err := signer.Sign([]byte("probe")); err != nil {
		return nil, errNoKey
	} else if _, err := probe.Verify(public.Key); err != nil {
		return nil, transport.SafeText("private and public half don't belong together")
	}
	return &signingKey{
		signer: signer,
		public: jose.JSONWebKey{Key: public.Key, KeyID: id, Algorithm: string(algorithm), Use: "sig"},
	}, nil
}

const errNoKey = transport.SafeText("is neither a PEM nor a JWK private key")

// parsePrivateKey reads a JWK, or the first private key of a PEM file.
func parsePrivateKey(content []byte) (*jose.JSONWebKey, error) {
	if content = bytes.TrimSpace(content); bytes.HasPrefix(content, []byte("{")) {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(content) != nil || key.IsPublic() || key.Use == "enc" {
			return nil, errNoKey
		}
		return &key, nil
	}
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			return nil, errNoKey
		}
		content = rest
		var key any
		var err error
		switch {
		case strings.HasPrefix(block.Type, "ENCRYPTED"), block.Headers["DEK-Info"] != "":
			return nil, transport.SafeText("is encrypted; the key must be in the clear")
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // a certificate, or the curve that openssl writes first
		}
		if err != nil {
			return nil, errNoKey
		}
		return &jose.JSONWebKey{Key: key}, nil
	}
}

func algorithms() []jose.SignatureAlgorithm {
	return append(rsaAlgorithms(), jose.ES256, jose.ES384, jose.EdDSA)
}

func rsaAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS384, jose.RS256, jose.RS512, jose.PS256, jose.PS384}
}

// AlgorithmError says that a key can't sign with the algorithm that is asked for.
type AlgorithmError struct {
	Key       string   // what it is: an RSA key
	Algorithm string   // what it can't do
	Fitting   []string // what it can do, the usual one first
}

// Error returns a short line for logs and operators.
func (e *AlgorithmError) Error() string {
	return "is " + e.Key + ", which can't sign with " + e.Algorithm + "; it can with " + strings.Join(e.Fitting, ", ")
}

// Unwrap gives the same as text that may be shown.
func (e *AlgorithmError) Unwrap() error { return transport.SafeText(e.Error()) }

// fitAlgorithm checks that the key can sign with the algorithm. An empty one
// becomes the key's usual one; SMART servers must know RS384 and ES384.
func fitAlgorithm(key any, algorithm jose.SignatureAlgorithm) (jose.SignatureAlgorithm, error) {
	var (
		fitting []jose.SignatureAlgorithm
		kind    string
	)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		kind = "an RSA key"
		if key.N.BitLen() < minRSABits {
			return "", transport.SafeText("is an RSA key of less than 2048 bits")
		}
		fitting = rsaAlgorithms()
	case *ecdsa.PrivateKey:
		kind = "an EC key on " + key.Curve.Params().Name
		switch key.Curve {
		case elliptic.P256():
			fitting = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			fitting = []jose.SignatureAlgorithm{jose.ES384}
		}
	case ed25519.PrivateKey:
		kind = "an Ed25519 key"
		fitting = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	switch {
	case len(fitting) == 0:
		return "", transport.SafeText("is of a kind or curve that no supported algorithm signs with")
	case algorithm == "":
		return fitting[0], nil
	case !slices.Contains(fitting, algorithm):
		unfit := &AlgorithmError{Key: kind, Algorithm: string(algorithm)}
		for _, a := range fitting {
			unfit.Fitting = append(unfit.Fitting, string(a))
		}
		return "", unfit
	}
	return algorithm, nil
}
