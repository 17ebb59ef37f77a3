package proxy

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// form is how a claim stands in its header.
type form uint8

const (
	formText  form = iota // printable ASCII, the rest percent-encoded UTF-8
	formJSON              // ASCII JSON, made by package introspection
	formArray             // JSON array of strings
	formExtra             // text of a member that no claim stands for
)

// ContextHeader is one claim of the introspection response as a header for the
// FHIR server.
type ContextHeader struct {
	// Suffix follows the configured prefix: "Patient" in X-Launch-Patient.
	Suffix string
	// Names are what the claim is called in configuration, the usual one first.
	Names []string
	// Claim is what the header carries.
	Claim introspection.Claim
	// Default tells whether the header is set unless configured otherwise.
	Default bool

	form  form
	extra int // index into Response.Extra
}

// extraPattern is what may follow the prefix: words of letters and digits between
// single dashes.
var extraPattern = regexp.MustCompile(`^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$`)

// ErrHeaderTaken says that a context header of that name exists.
var ErrHeaderTaken = errors.New("is the name of another context header")

// ExtraHeader returns the header that carries the member at index extra of
// introspection.Decoder.Extra. The error says why suffix can't be its name.
func ExtraHeader(suffix string, extra int) (ContextHeader, error) {
	switch {
	case !extraPattern.MatchString(suffix):
		return ContextHeader{}, errors.New("must be Name=claim, the name of letters, digits and single dashes, such as Organization=organization")
	case slices.ContainsFunc(contextTable[:], func(known ContextHeader) bool { return strings.EqualFold(known.Suffix, suffix) }):
		return ContextHeader{}, ErrHeaderTaken
	}
	return ContextHeader{Suffix: suffix, form: formExtra, extra: extra}, nil
}

// contextTable lists what can be injected. What identifies comes before what
// can be long, because room is given in this order.
var contextTable = [...]ContextHeader{
	{Suffix: "Patient", Names: []string{"patient"}, Claim: introspection.Patient, Default: true},
	{Suffix: "Encounter", Names: []string{"encounter"}, Claim: introspection.Encounter, Default: true},
	{Suffix: "User", Names: []string{"user", "fhirUser"}, Claim: introspection.User, Default: true},
	{Suffix: "Subject", Names: []string{"sub"}, Claim: introspection.Subject, Default: true},
	{Suffix: "Issuer", Names: []string{"iss"}, Claim: introspection.Issuer, Default: true},
	{Suffix: "Client-Id", Names: []string{"client_id", "azp"}, Claim: introspection.ClientID, Default: true},
	{Suffix: "Expires", Names: []string{"exp"}, Claim: introspection.Expires, Default: true},
	{Suffix: "Intent", Names: []string{"intent"}, Claim: introspection.Intent, Default: true},
	{Suffix: "Tenant", Names: []string{"tenant"}, Claim: introspection.Tenant, Default: true},
	{Suffix: "Username", Names: []string{"username"}, Claim: introspection.Username},
	{Suffix: "Token-Id", Names: []string{"jti"}, Claim: introspection.TokenID},
	{Suffix: "Resource", Names: []string{"resource"}, Claim: introspection.Resource},
	{Suffix: "Definition", Names: []string{"definition"}, Claim: introspection.Definition},
	{Suffix: "Audience", Names: []string{"aud"}, Claim: introspection.Audience, form: formArray},
	{Suffix: "Fhir-Context", Names: []string{"fhirContext"}, Claim: introspection.FHIRContext, Default: true, form: formJSON},
	{Suffix: "Scope", Names: []string{"scope"}, Claim: introspection.Scope, Default: true},
}

// ContextHeadersFor returns the headers of the claims with these names, in their own
// order, each once. The error lists the names that there are.
func ContextHeadersFor(claims []string) (headers []ContextHeader, err error) {
	claims = slices.Clone(claims)
	var known []string
	for _, header := range contextTable {
		known = append(known, header.Names[0])
		isName := func(claim string) bool { return slices.Contains(header.Names, claim) }
		if slices.ContainsFunc(claims, isName) {
			headers = append(headers, header)
			claims = slices.DeleteFunc(claims, isName)
		}
	}
	if len(claims) > 0 {
		return nil, errors.New("has a claim that is not one of " + strings.Join(known, " "))
	}
	return headers, nil
}

// ContextHeaders returns all headers that can be configured.
func ContextHeaders() []ContextHeader { return slices.Clone(contextTable[:]) }
