package proxy

import "net/http"

// allowedMethods are FHIR's methods and OPTIONS.
const allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// knownMethod holds for FHIR's methods and OPTIONS. Forwarding CONNECT would let
// the client write the next request on a shared upstream connection
// (CVE-2026-56866).
func knownMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// expectsBody holds for methods whose request body means something.
func expectsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// leavesBody holds for a request with a body that has no meaning (RFC 9110 §9.3.1). A FHIR
// server that passes over it would take it for the next request on the connection, with
// whatever context headers it has.
func leavesBody(method string, length int64) bool {
	return length != 0 && !expectsBody(method)
}
