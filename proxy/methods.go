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
