package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// bearerPattern is what a token may look like (RFC 6750 §2.1).
var bearerPattern = regexp.MustCompile(`^[A-Za-z0-9\-._~+/]+=*$`)

// maxTokenInput bounds what is read from standard input.
const maxTokenInput = 1 << 20

// suppliedToken is a token to ask about, or why it couldn't be read.
type suppliedToken struct {
	text string
	err  error
}

// readToken takes the token from a file, or from standard input.
func readToken(path string, stdin io.Reader) (t suppliedToken) {
	var content []byte
	switch {
	case path == "":
		return t
	case path != "-":
		content, t.err = config.Watch("-token-file", path).Read(true)
	case stdin == nil:
		t.err = errors.New("standard input can't be read")
	default:
		content, t.err = io.ReadAll(io.LimitReader(stdin, maxTokenInput))
	}
	t.text = strings.TrimSpace(string(content))
	return t
}

// tokens shows what becomes of a token.
type tokens struct {
	visit
	token suppliedToken
}

// check shows what would become of a request with a given token.
func (d tokens) check(ctx context.Context) {
	const check = "token"
	if d.cfg.TokenFile == "" {
		return
	}
	token, endpoint := d.token.text, d.cfg.Endpoints().Introspection
	switch {
	case d.token.err != nil:
		d.fail(check, d.token.err.Error(), diagnosis{"wrong path", "-token-file"})
		return
	case len(token) > 7 && strings.EqualFold(token[:7], "bearer "):
		d.fail(check, "it begins with Bearer", diagnosis{"there must be the token alone", "-token-file"})
		return
	case !bearerPattern.MatchString(token):
		d.fail(check, "is no bearer token", diagnosis{"it is empty, or has characters that no token has", "-token-file"})
		return
	case len(token) > d.cfg.Settings.MaxTokenBytes:
		d.fail(check, fmt.Sprintf("has %d bytes: it is refused without asking", len(token)), diagnosis{"it is longer than is allowed", "SIDECAR_MAX_TOKEN_BYTES"})
		return
	case endpoint == "" || d.cfg.Credential.Ready() != nil:
		d.skip(check, "there is no way to ask; see above")
		return
	}
	recorded, seen := record(ctx)
	verdict, err := d.cfg.Client.Introspect(recorded, introspection.Request{Token: token})
	switch {
	case errors.Is(err, introspection.ErrInactive):
		d.inactive(token, seen.sent(endpoint))
		requests(d.visit).tryAll(nil)
	case errors.Is(err, introspection.ErrInvalidClient):
		d.skip(check, "the sidecar's own credential is refused; see above")
	case err != nil:
		d.fail(check, reasonOf(err), causes(d.visit).diagnose(ctx, seen.last(endpoint), err))
	default:
		d.ok(check, "active")
		d.explain(verdict.Response)
		requests(d.visit).tryAll(verdict.Response)
	}
}

// policyRules say what the report calls the rules of the policy, what they are
// configured with, if anything, and what is found where one fails, unless that is a claim.
var policyRules = map[policy.Reason]struct{ name, setting, fault string }{
	policy.Kind:           {"kind", "", "no access token: a refresh token, an id token or another kind"},
	policy.Bound:          {"binding", "", "bound to its sender (cnf), which isn't verified here"},
	policy.TokenType:      {"type", "SIDECAR_REQUIRED_TOKEN_TYPES", ""},
	policy.Expired:        {"expiry", "", "exp has passed by the clock here"},
	policy.NotYet:         {"time", "SIDECAR_CLOCK_SKEW", "nbf or iat is still to come by the clock here"},
	policy.Audience:       {"audience", "SIDECAR_REQUIRED_AUDIENCES", ""},
	policy.Issuer:         {"issuer", "SIDECAR_REQUIRED_ISSUERS", ""},
	policy.RequiredScope:  {"scope", "SIDECAR_REQUIRED_SCOPES", ""},
	policy.PatientContext: {"patient", "SIDECAR_PATIENT_CONTEXT", "patient/ scopes, and no patient that they are limited to"},
}

// explain shows how an active token fares.
func (d tokens) explain(response *introspection.Response) {
	for _, result := range d.cfg.Proxy.PolicyResults(response) {
		rule := policyRules[result.Reason]
		if result.Passed {
			detail := shown(result.Detail)
			if rule.setting != "" && strings.HasPrefix(detail, "no ") {
				detail = "none is required" // a claim that nothing looks at isn't even read
			}
			d.ok("token "+rule.name, detail)
			continue
		}
		d.fail("token "+rule.name, shown(cmp.Or(rule.fault, result.Detail)), diagnosis{"the token is active, but not what is required: requests with it are refused", rule.setting})
	}
	header := d.cfg.Proxy.ContextFor(response)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		d.ok("header", name+": "+shown(header.Get(name)))
	}
	if len(header) == 0 {
		d.skip("header", "the FHIR server would get none")
	}
}

// inactive tells why a token may be refused.
func (d tokens) inactive(token string, asked bool) {
	const check = "token"
	claims, isJWT := readJWT(token)
	detail := "the authorization server calls it inactive"
	if !asked {
		detail = "refused without asking the authorization server"
	}
	expiry, expired := claims.expired()
	switch otherIssuer := isJWT && claims.Issuer != d.cfg.Settings.IssuerURL && d.cfg.Settings.IssuerURL != ""; {
	case isJWT && expired:
		d.fail(check, detail, diagnosis{"it expired at " + expiry, ""})
	case otherIssuer && (claims.Issuer != "" || d.cfg.Settings.JWTPrecheck):
		d.fail(check, detail, diagnosis{fmt.Sprintf("it is of another issuer: %q", shown(claims.Issuer)), "SIDECAR_ISSUER_URL"})
	case !asked && d.cfg.Settings.JWTPrecheck:
		d.fail(check, detail, diagnosis{"not signed with a key of the issuer, or not valid yet; or a kind that is never accepted", "SIDECAR_JWT_PRECHECK"})
	case !asked:
		d.fail(check, detail, diagnosis{"it is of a kind that is never accepted, such as a launch token", ""})
	case isJWT && claims.lacksAudience(d.cfg.Settings.ClientID):
		d.fail(check, detail, diagnosis{fmt.Sprintf("its aud, %q, does not contain %q: Keycloak from 26.6.2 on calls a token inactive for a client that is not in its aud; add an audience mapper to the client that the token is for, or to a client scope",
			shown(strings.Join(claims.Audience, " ")), shown(d.cfg.Settings.ClientID)), ""})
	default:
		d.fail(check, detail, diagnosis{"expired, revoked, of another server, or a kind of token that is no access token", ""})
	}
}
