package introspection

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// assertionType is the client_assertion_type of RFC 7523 §2.2.
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

	// assertionAge backdates iat, because servers without leeway refuse one that
	// lies a second ahead of their clock. More would be too old for Keycloak,
	// which by default takes a minute at most.
	assertionAge = 30 * time.Second

	// assertionLife is symmetric around the clocks' agreement: a server may run
	// two and a half minutes ahead before the assertion is expired, and as much
	// behind before exp lies beyond the five minutes of SMART Backend Services.
	assertionLife = 150 * time.Second

	minRSABits = 2048 // RFC 7518 §3.3
)

// assertions makes the JWTs by which a client proves to hold its key.
type assertions struct {
	cfg       CredentialConfig
	key       *replaceable[*signingKey]
	published keySet
}

func newAssertions(cfg CredentialConfig, m *credentialMetrics) *assertions {
	a := &assertions{cfg: cfg}
	parse := func(content []byte) (*signingKey, error) {
		key, err := parseSigningKey(content, cfg.KeyID, jose.SignatureAlgorithm(cfg.Algorithm))
		if err == nil {
			// Before anything is signed with it.
			a.published.use(key.public, cfg.Now())
		}
		return key, err
	}
	a.key = &replaceable[*signingKey]{
		field: "ClientKey", read: cfg.ClientKey, parse: parse, logger: cfg.Logger, replaced: m.count,
	}
	return a
}

// check reads the key and returns the faults of the configuration.
func (a *assertions) check() (faults []error) {
	if a.cfg.Algorithm != "" && !slices.Contains(algorithms(), jose.SignatureAlgorithm(a.cfg.Algorithm)) {
		faults = append(faults, &FieldError{"Algorithm", safeText("is not one of RS256, RS384, RS512, PS256, PS384, ES256, ES384, EdDSA")})
	} else if _, _, err := a.key.load(true); err != nil {
		faults = append(faults, err)
	}
	switch {
	case a.cfg.Audience == "issuer" && a.cfg.Issuer == "":
		faults = append(faults, &FieldError{"Audience", safeText("issuer needs an Issuer")})
	case a.cfg.Audience == "token" && a.cfg.TokenEndpoint == nil:
		faults = append(faults, &FieldError{"Audience", safeText("token needs a TokenEndpoint")})
	case a.cfg.Audience == "introspection" && a.cfg.Auth == AuthBearer:
		faults = append(faults, &FieldError{"Audience", safeText("introspection is not where the grant's assertion goes")})
	}
	return faults
}

// audience resolves the setting: Koppeltaal's text and its reference server
// disagree on which URL belongs in aud (RFC 7523 §3 lets the server choose).
func (a *assertions) audience(postedTo string) (string, error) {
	switch a.cfg.Audience {
	case "", "introspection":
		return postedTo, nil
	case "issuer":
		return a.cfg.Issuer, nil
	case "token":
		if endpoint := a.cfg.TokenEndpoint(); endpoint != "" {
			return endpoint, nil
		}
		return "", errNoTokenEndpoint
	}
	return a.cfg.Audience, nil
}

// assertionClaims are those of RFC 7523 §3. There is no nbf: it would only add
// another date for clocks to disagree on.
type assertionClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"` // one string: some servers compare it as such
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	ID       string `json:"jti"`
}

// add puts a new assertion into a form that is posted to the given URL. Nothing
// else authenticates such a request: no header, no client_id (RFC 7521 §4.2).
func (a *assertions) add(form url.Values, postedTo string) (generation, error) {
	key, gen, _ := a.key.load(false) // logged there; the last good one stays
	audience, err := a.audience(postedTo)
	if err != nil {
		return gen, err
	}
	now := a.cfg.Now()
	assertion, err := jwt.Signed(key.signer).Claims(assertionClaims{
		Issuer:   a.cfg.ClientID,
		Subject:  a.cfg.ClientID,
		Audience: audience,
		IssuedAt: now.Add(-assertionAge).Unix(),
		Expires:  now.Add(assertionLife).Unix(),
		ID:       rand.Text(), // at least 128 bits; servers refuse one seen before
	}).Serialize()
	if err != nil {
		return gen, safeText("signing the client assertion failed")
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return gen, nil
}

func (a *assertions) jwks() ([]byte, error) {
	_, _, _ = a.key.load(false) // logged there; the last good one stays
	return a.published.document(a.cfg.Now())
}

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
	if algorithm == "" {
		algorithm = jose.SignatureAlgorithm(private.Algorithm)
	}
	if algorithm, err = fitAlgorithm(private.Key, algorithm); err != nil {
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
		return nil, safeText("private and public half don't belong together")
	}
	return &signingKey{
		signer: signer,
		public: jose.JSONWebKey{Key: public.Key, KeyID: id, Algorithm: string(algorithm), Use: "sig"},
	}, nil
}

const errNoKey = safeText("is neither a PEM nor a JWK private key")

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
			return nil, safeText("is encrypted; the key must be in the clear")
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

// fitAlgorithm checks that the key can sign with the algorithm. An empty one
// becomes the key's usual one; SMART servers must know RS384 and ES384.
func fitAlgorithm(key any, algorithm jose.SignatureAlgorithm) (jose.SignatureAlgorithm, error) {
	var fitting []jose.SignatureAlgorithm
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < minRSABits {
			return "", safeText("is an RSA key of less than 2048 bits")
		}
		fitting = rsaAlgorithms()
	case *ecdsa.PrivateKey:
		switch key.Curve {
		case elliptic.P256():
			fitting = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			fitting = []jose.SignatureAlgorithm{jose.ES384}
		}
	case ed25519.PrivateKey:
		fitting = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	switch {
	case len(fitting) == 0:
		return "", safeText("is of a kind or curve that no supported algorithm signs with")
	case algorithm == "":
		return fitting[0], nil
	case !slices.Contains(fitting, algorithm):
		return "", safeText("doesn't fit the algorithm")
	}
	return algorithm, nil
}
