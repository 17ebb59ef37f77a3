package introspection

import (
	"iter"
	"strings"
	"time"
)

// audienceSeparator can't be part of an audience: control characters in a
// claim make the whole response malformed.
const audienceSeparator = "\n"

// extraSeparator stands behind each extra value, and in none of them.
const extraSeparator = "\x00"

// Response is an active introspection response (RFC 7662 §2.2). It is
// immutable, so that one value can be shared by all requests with its token.
// Claims are packed into one string because a cache keeps tens of thousands of them.
type Response struct {
	text       string
	ends       [claimCount]uint32
	obtainedAt time.Time
	expires    int64
	notBefore  int64
	issuedAt   int64
	unusable   ClaimSet
	kind       Kind
	hasExp     bool
}

// Text returns the claim's value, or "" when the server didn't send it.
func (r *Response) Text(c Claim) string {
	var start uint32
	if c > 0 {
		start = r.ends[c-1]
	}
	return r.text[start:r.ends[c]]
}

// Audiences yields the single values of `aud`.
func (r *Response) Audiences() iter.Seq[string] {
	if r.Text(Audience) == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(r.Text(Audience), audienceSeparator)
}

// ObtainedAt returns when the authorization server said so. How long a response
// may be believed counts from there, however many caches it went through.
func (r *Response) ObtainedAt() time.Time { return r.obtainedAt }

// ExpiresAt returns `exp` in seconds since 1970 and whether the server sent it.
func (r *Response) ExpiresAt() (unix int64, ok bool) { return r.expires, r.hasExp }

// NotBefore returns `nbf` in seconds since 1970, zero when absent.
func (r *Response) NotBefore() int64 { return r.notBefore }

// IssuedAt returns `iat` in seconds since 1970, zero when absent.
func (r *Response) IssuedAt() int64 { return r.issuedAt }

// Kind returns what the authorization server called the token.
func (r *Response) Kind() Kind { return r.kind }

// Extra returns the value of a member that no Claim stands for: the one at index i
// of Decoder.Extra. It is "" when the server didn't send it.
func (r *Response) Extra(i int) string {
	extras := r.text[r.ends[claimCount-1]:]
	for range i {
		_, extras, _ = strings.Cut(extras, extraSeparator)
	}
	value, _, _ := strings.Cut(extras, extraSeparator)
	return value
}

// Unusable reports whether the server sent the claim in a form that can't be
// passed on: a patient that isn't a FHIR id, an item of fhirContext that is
// neither reference nor object.
func (r *Response) Unusable(c Claim) bool { return r.unusable.Has(c) }
