// Package introspection is the client side of OAuth 2.0 Token Introspection
// (RFC 7662): it asks an authorization server whether a bearer token is active
// and reads the launch context that SMART App Launch puts into the answer.
//
// What stands where:
//
//	introspection.go  the Introspector interface, the verdicts and failures
//	client.go         one request, the limit on concurrent calls
//	sendonce.go       no request is sent again once the server may have it
//	token.go          tokens that are refused without a call
//	precheck.go       JWTs that are refused without a call
//	answer.go         its answer: status, media type, size
//	decode.go         the answer's members and their tolerated shapes
//	json.go           strict JSON: unique names, exact case, nothing after the object
//	fhircontext.go    fhirContext in the one form that is passed on
//	response.go       what is kept of an active answer
//	credential.go     how the sidecar authenticates itself
//	assertion.go      private_key_jwt (RFC 7523, SMART Backend Services)
//	grant.go          the client credentials grant (RFC 6749 §4.4) and its token
//	tokenrequest.go   one request of that grant
//	file.go           files that are followed while the process runs
//	transport.go      the one kind of HTTP client that talks to the server
//	discovery.go      endpoints from published documents, on allowed hosts only
//	documents.go      SMART, OpenID Connect and RFC 8414 metadata
//	capability.go     the CapabilityStatement, as a stream
//
// Not checked here: audience, issuer, scope, kind and `nbf` of a token, because
// they depend on the request it comes with and on its time; and nothing is
// cached. Package introspection reads no environment and no files.
package introspection
