// Package client asks an introspection endpoint (RFC 7662) about tokens.
//
//	client.go      one request
//	queue.go       the limit on concurrent calls
//	response.go    its response: status, media type, size
//	standing.go    whether our credential is refused, which readiness goes by
//	health.go      when the endpoint begins to fail and ends
//	parties.go     who is asked and who asks, for caches
//	refuse.go      tokens that are refused without a call
//	precheck.go    JWTs that are refused without a call
//	issuerkeys.go  the keys that JWTs are verified with
//	signature.go   a signature, a key, and what it says
//	jwt.go         what is read of a JWT before it is verified
package client
