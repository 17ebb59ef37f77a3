// Package transport is how the sidecar talks to an authorization server: the one
// kind of HTTP client, the files it follows, and what may be said of its errors.
//
//	transport.go   the client: no redirect, no proxy, no cookies, one deadline
//	tls.go         roots and client certificate
//	reload.go      files that are replaced while the process runs
//	sendonce.go    no request is sent again once the server may have it
//	retryafter.go  how long a server asks us to wait
//	redact.go      errors of net/http as short lines without what they quote
//	address.go     ports and loopback addresses of URLs
package transport
