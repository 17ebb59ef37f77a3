// Package introspection holds the nouns of OAuth 2.0 Token Introspection
// (RFC 7662): what an Introspector is asked, what it says, and the launch
// context that SMART App Launch puts into the response.
//
// What stands where:
//
//	introspection.go  the Introspector interface, the verdicts and failures
//	response.go       what is kept of an active response
//	decode.go         the response's members and their tolerated shapes
//	date.go           NumericDate
//	fhircontext.go    fhirContext in the one form that is passed on
//	strictjson.go     JSON that can't be read in two ways
//	jwt.go            a JWT's parts, not verified
//	quote.go          JSON strings of printable ASCII
//	requestid.go      ids of requests
//
// Who asks the endpoint is in package client, with what in package credential,
// where it is in package discovery, and over which connections in package
// transport. Not checked here: audience, issuer, scope, kind and `nbf` of a
// token, because they depend on the request it comes with and on its time; and
// nothing is cached. None of these packages reads the environment or files.
package introspection
