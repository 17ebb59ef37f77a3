// Package credential is what the sidecar authenticates itself with at the
// introspection endpoint, and how it gets and renews it.
//
//	credential.go    the ways of authenticating
//	secret.go        tokens and client secrets in files
//	assertion.go     private_key_jwt (RFC 7523, SMART Backend Services)
//	key.go           the key that signs assertions
//	jwks.go          its public half, for the authorization server to fetch
//	grant.go         the client credentials grant (RFC 6749 §4.4) and its token
//	tokenrequest.go  one request of that grant
package credential
