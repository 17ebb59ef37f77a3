package introspection

import (
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"strings"
	"time"
)

// alwaysRead are the members that every response is judged by.
var alwaysRead = []string{"active", "exp", "nbf", "iat", "token_type", "token_use", "typ", "cnf"}

// Decoder reads introspection responses (RFC 7662 §2.2). The zero value keeps
// nothing but what every response is judged by: kind and dates.
type Decoder struct {
	// Claims are kept. Only members that are looked at must be unique, spelled
	// exactly and of their type; all others are ignored.
	Claims ClaimSet
	// Extra are members that no Claim stands for, for Response.Extra.
	Extra []string
	// Aliases are members that are looked at when a claim is absent.
	Aliases map[Claim]string
}

// Decode reads a response as of now.
//
// It returns ErrInactive for `active: false` and for a token whose `exp` has
// passed, and a Failure of kind ErrMalformed for anything that is not
// unmistakably one active response. Error texts hold member names, no values.
func (d Decoder) Decode(answer Answer, now time.Time) (*Response, error) {
	top, doubtful, err := JSONMembers(answer.Body, d.members(true))
	if err != nil {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	if err := doubtful["active"]; err != nil {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	switch string(top["active"]) {
	case "true":
	case "false":
		// RFC 7662 §2.2: nothing else in an inactive response is of interest.
		return nil, ErrInactive
	default:
		return nil, Failf(ErrMalformed, "active is missing or not a boolean")
	}
	for _, err := range doubtful {
		return nil, Failf(ErrMalformed, "%v", err)
	}
	reading := reading{decoder: d, top: top}
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

// members are those that are looked at, on the top level or below ext.
func (d Decoder) members(top bool) []string {
	var names []string
	if top {
		names = append(names, alwaysRead...)
	}
	below := len(d.Extra) > 0
	for c, row := range claims {
		if !d.Claims.Has(Claim(c)) || !top && !row.launch {
			continue
		}
		below = below || row.launch
		names = append(names, row.members...)
		if alias := d.Aliases[Claim(c)]; alias != "" {
			names = append(names, alias)
		}
	}
	if top { // they are judged by, whatever is kept
		names = append(names, d.Aliases[Expires], d.Aliases[TokenType])
	}
	if names = append(names, d.Extra...); top && below {
		names = append(names, "ext")
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// reading gathers the claims of one response; the first fault sticks.
type reading struct {
	decoder  Decoder
	top      map[string]jsontext.Value
	ext      map[string]jsontext.Value
	unusable ClaimSet
	err      error
}

func (r *reading) fail(name string, err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("%s %w", name, err)
	}
}

func (r *reading) response() (*Response, error) {
	r.readExt()
	resp := &Response{kind: r.kind()}
	resp.expires, resp.hasExp = r.date("exp")
	if alias := r.decoder.Aliases[Expires]; alias != "" && IsJSONNull(r.top["exp"]) {
		resp.expires, resp.hasExp = r.date(alias)
	}
	resp.notBefore, _ = r.date("nbf")
	resp.issuedAt, _ = r.date("iat")
	var text strings.Builder
	for c, row := range claims {
		if r.decoder.Claims.Has(Claim(c)) {
			text.WriteString(r.claim(Claim(c), row))
		}
		resp.ends[c] = uint32(text.Len()) // the body is at most 256 KiB long
	}
	for _, name := range r.decoder.Extra {
		_, raw := r.value([]string{name}, true)
		value, _, err := readExtra(raw)
		r.fail(name, err)
		text.WriteString(value + extraSeparator)
	}
	if r.err != nil {
		return nil, r.err
	}
	resp.text, resp.unusable = strings.Clone(text.String()), r.unusable // without what the builder has left over
	return resp, nil
}

// claim reads one claim, by its alias when it is absent.
func (r *reading) claim(c Claim, row claimRow) string {
	name, raw := r.value(row.members, row.launch)
	if alias := r.decoder.Aliases[c]; alias != "" && raw == nil {
		name, raw = r.value([]string{alias}, row.launch)
	}
	text, usable, err := row.read(raw)
	r.fail(name, err)
	if !usable {
		r.unusable |= NewClaimSet(c)
	}
	return text
}

// readExt opens `ext`, where Ory Hydra puts the claims of the session.
func (r *reading) readExt() {
	raw := r.top["ext"]
	if raw.Kind() != jsontext.KindBeginObject {
		return
	}
	ext, doubtful, err := JSONMembers(raw, r.decoder.members(false))
	r.fail("ext", err)
	for _, err := range doubtful {
		r.fail("ext", err)
	}
	r.ext = ext
}

// value returns the first of the named members that says something: an empty
// string is no claim, so that the next name counts. Below ext it looks when the
// top level has none of the names. Nil: there is none.
func (r *reading) value(names []string, below bool) (string, jsontext.Value) {
	for _, from := range []map[string]jsontext.Value{r.top, r.ext} {
		empty := ""
		for _, name := range names {
			switch {
			case string(from[name]) == `""`:
				empty = name
			case !IsJSONNull(from[name]):
				return name, from[name]
			}
		}
		if empty != "" {
			return empty, from[empty]
		}
		if !below {
			break
		}
	}
	return names[0], nil
}

// kind reads what the authorization server calls the token: `token_type`
// (RFC 7662), `token_use` (Ory Hydra, Cognito), `typ` (Keycloak), `cnf`
// (RFC 7800).
func (r *reading) kind() Kind {
	kind := KindAccess
	names := []string{"token_type", "token_use", "typ"}
	if alias := r.decoder.Aliases[TokenType]; alias != "" && IsJSONNull(r.top["token_type"]) {
		names[0] = alias
	}
	for _, name := range names {
		s, err := JSONText(r.top[name])
		r.fail(name, err)
		switch kindOf(s) {
		case KindOther:
			return KindOther
		case KindBound:
			kind = KindBound
		}
	}
	if !IsJSONNull(r.top["cnf"]) {
		kind = KindBound
	}
	return kind
}

// date reads a NumericDate (RFC 7519 §2) in whole seconds.
func (r *reading) date(name string) (int64, bool) {
	raw := r.top[name]
	if IsJSONNull(raw) {
		return 0, false
	}
	seconds, err := ParseDate(raw)
	r.fail(name, err)
	return seconds, err == nil
}
