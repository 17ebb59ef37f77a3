package introspection

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/strictjson"
)

// The members this package looks at. Only these must be unique and spelled
// exactly; everything else in an answer is ignored.
var (
	topMembers = []string{
		"active", "scope", "client_id", "azp", "username", "token_type", "token_use", "typ", "cnf",
		"exp", "iat", "nbf", "sub", "aud", "iss", "jti", "ext",
		"patient", "encounter", "user", "fhirUser", "fhirContext", "intent", "tenant", "resource", "definition",
	}
	launchMembers = []string{
		"patient", "encounter", "user", "fhirUser", "fhirContext", "intent", "tenant", "resource", "definition",
	}
)

// alwaysKept are the claims that checks need, whatever headers are configured.
var alwaysKept = NewClaimSet(Scope, ClientID, TokenType, Subject, Audience, Issuer, Expires)

// DecodeResponse decodes a body that was obtained now: see Decoder.
func DecodeResponse(body []byte, wanted ClaimSet, now time.Time) (*Response, error) {
	return Decoder{Claims: wanted}.Decode(Answer{Body: body, ObtainedAt: now}, now)
}

// Decoder reads introspection responses (RFC 7662 §2.2).
type Decoder struct {
	// Claims are kept beside those that checks need.
	Claims ClaimSet
}

// Decode reads an answer as of now.
//
// It returns ErrInactive for `active: false` and for a token whose `exp` has
// passed, and a Failure of kind ErrMalformed for anything that is not
// unmistakably one active response. Error texts hold member names, no values.
func (d Decoder) Decode(answer Answer, now time.Time) (*Response, error) {
	top, doubtful, err := strictjson.Members(answer.Body, topMembers)
	if err != nil {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	if err := doubtful["active"]; err != nil {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	switch string(top["active"]) {
	case "true":
	case "false":
		// RFC 7662 §2.2: nothing else in an inactive answer is of interest.
		return nil, ErrInactive
	default:
		return nil, Failf(ErrMalformed, "active is missing or not a boolean")
	}
	for _, err := range doubtful {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	reading := decoder{top: top, wanted: d.Claims | alwaysKept}
	resp, err := reading.response()
	if err != nil {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	if resp.hasExp && now.Unix() >= resp.expires {
		// RFC 7662 §4: an expired token must not be used, whatever `active` says.
		return nil, ErrInactive
	}
	resp.obtainedAt = answer.ObtainedAt
	return resp, nil
}

// decoder gathers the claims of one answer; the first fault sticks.
type decoder struct {
	top      map[string]json.RawMessage
	ext      map[string]json.RawMessage
	wanted   ClaimSet
	values   [claimCount]string
	unusable ClaimSet
	err      error
}

func (d *decoder) fail(name string, err error) {
	if d.err == nil && err != nil {
		d.err = fmt.Errorf("%s %w", name, err)
	}
}

func (d *decoder) response() (*Response, error) {
	d.readExt()
	d.text(ClientID, "client_id", "azp")
	d.text(Username, "username")
	d.text(TokenType, "token_type")
	d.text(Subject, "sub")
	d.text(Issuer, "iss")
	d.text(TokenID, "jti")
	d.list(Scope, "scope", " ")
	d.list(Audience, "aud", audienceSeparator)
	d.id(Patient, "patient", "Patient/")
	d.id(Encounter, "encounter", "Encounter/")
	d.text(User, "fhirUser", "user")
	d.text(Intent, "intent")
	d.text(Tenant, "tenant")
	d.text(Resource, "resource")
	d.text(Definition, "definition")
	d.context()

	resp := &Response{kind: d.kind()}
	resp.expires, resp.hasExp = d.date("exp")
	resp.notBefore, _ = d.date("nbf")
	resp.issuedAt, _ = d.date("iat")
	if resp.hasExp {
		d.values[Expires] = strconv.FormatInt(resp.expires, 10)
	}
	if d.err != nil {
		return nil, d.err
	}
	resp.unusable = d.unusable
	resp.text = strings.Join(d.values[:], "")
	var end uint32
	for c, value := range d.values {
		end += uint32(len(value)) // the body is at most maxBody long
		resp.ends[c] = end
	}
	return resp, nil
}

// readExt opens `ext`, where Ory Hydra puts the claims of the session.
func (d *decoder) readExt() {
	raw := d.top["ext"]
	if strictjson.IsNull(raw) || raw[0] != '{' {
		return
	}
	ext, doubtful, err := strictjson.Members(raw, launchMembers)
	d.fail("ext", err)
	for _, err := range doubtful {
		d.fail("ext", err)
	}
	d.ext = ext
}

// value returns the first of the named members that says something: an empty
// string is no claim, so that the next name counts. Launch claims are also below
// ext, when the top level has none of the names.
func (d *decoder) value(names ...string) (string, json.RawMessage) {
	for _, from := range []map[string]json.RawMessage{d.top, d.ext} {
		empty := ""
		for _, name := range names {
			switch {
			case string(from[name]) == `""`:
				empty = name
			case !strictjson.IsNull(from[name]):
				return name, from[name]
			}
		}
		if empty != "" {
			return empty, nil
		}
	}
	return names[0], nil
}

func (d *decoder) text(c Claim, names ...string) {
	if !d.wanted.Has(c) {
		return
	}
	name, raw := d.value(names...)
	s, err := strictjson.Text(raw)
	d.fail(name, err)
	d.values[c] = s
}

func (d *decoder) list(c Claim, name, separator string) {
	if !d.wanted.Has(c) {
		return
	}
	values, err := strictjson.Texts(d.top[name])
	d.fail(name, err)
	d.values[c] = strings.Join(values, separator)
	if c == Scope { // RFC 6749 §3.3: one blank between them, which is no other space
		d.values[c] = strings.Join(strings.FieldsFunc(d.values[c], isBlank), " ")
	}
}

func isBlank(r rune) bool { return r == ' ' }

// id reads a reference to a resource of one type as its bare id. Anything that
// names no resource of that type is unusable, because the FHIR server would
// take it for another one.
func (d *decoder) id(c Claim, name, prefix string) {
	if !d.wanted.Has(c) {
		return
	}
	_, raw := d.value(name)
	if !strictjson.IsNull(raw) && strings.Trim(string(raw), "0123456789") == "" {
		raw = json.RawMessage(`"` + string(raw) + `"`)
	}
	s, err := strictjson.Text(raw)
	d.fail(name, err)
	id := strings.TrimPrefix(s, prefix)
	if s != "" && !isFHIRID(id) {
		d.unusable |= NewClaimSet(c)
		return
	}
	d.values[c] = id
}

func (d *decoder) context() {
	if !d.wanted.Has(FHIRContext) {
		return
	}
	_, raw := d.value("fhirContext")
	s, dropped, err := contextJSON(raw)
	d.fail("fhirContext", err)
	if dropped {
		d.unusable |= NewClaimSet(FHIRContext)
	}
	d.values[FHIRContext] = s
}

// isFHIRID reports whether s is a FHIR id: [A-Za-z0-9\-\.]{1,64}.
func isFHIRID(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// kind reads what the authorization server calls the token: `token_type`
// (RFC 7662), `token_use` (Ory Hydra, Cognito), `typ` (Keycloak), `cnf`
// (RFC 7800).
func (d *decoder) kind() Kind {
	kind := KindAccess
	for _, name := range []string{"token_type", "token_use", "typ"} {
		s, err := strictjson.Text(d.top[name])
		d.fail(name, err)
		s = strings.ToLower(s)
		s = strings.TrimPrefix(s, "urn:ietf:params:oauth:token-type:")
		for _, suffix := range []string{"token", "+jwt", "_", "-", " "} {
			s = strings.TrimSuffix(s, suffix)
		}
		switch s {
		case "refresh", "id", "offline", "logout":
			return KindOther
		case "dpop", "pop":
			kind = KindBound
		}
	}
	if !strictjson.IsNull(d.top["cnf"]) {
		kind = KindBound
	}
	return kind
}

// date reads a NumericDate (RFC 7519 §2) in whole seconds: a number, fractional
// or not, or a string of digits.
func (d *decoder) date(name string) (int64, bool) {
	raw := d.top[name]
	if strictjson.IsNull(raw) {
		return 0, false
	}
	seconds, err := ParseDate(raw)
	d.fail(name, err)
	return seconds, err == nil
}
