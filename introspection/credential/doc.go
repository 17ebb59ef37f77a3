// Package credential is what the sidecar authenticates itself with at the
// introspection endpoint, and how it gets and renews it.
//
//	credential.go    the Credential
//	config.go        its Config
//	mode.go          the ways of authenticating, one a row
//	parts.go         what they have in common
//	bearer.go        the sidecar's own token (RFC 6750)
//	secret.go        client id and secret (RFC 6749 §2.3.1)
//	assertion.go     private_key_jwt (RFC 7523, SMART Backend Services)
//	tlsclient.go     the client certificate (RFC 8705 §2)
//	none.go          nothing, on a loopback address
//	key.go           the key that signs assertions
//	jwks.go          its public half, for the authorization server to fetch
//	grant.go         the client credentials grant (RFC 6749 §4.4) and its token
//	pace.go          when a token may be asked for
//	tokenrequest.go  one request of that grant
package credential
