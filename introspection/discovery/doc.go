// Package discovery finds the endpoints of an authorization server in published
// documents, and uses them on allowed hosts only.
//
//	discovery.go   when documents are read
//	adopt.go       which of what they name is used
//	documents.go   SMART, OpenID Connect and RFC 8414 metadata
//	capability.go  the CapabilityStatement, as a stream
//	finding.go     what one document said
package discovery
