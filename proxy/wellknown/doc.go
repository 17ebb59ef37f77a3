// Package wellknown makes the documents by which clients find out how to get a
// token for a FHIR server: SMART App Launch's .well-known/smart-configuration, and
// RFC 9728's OAuth 2.0 protected resource metadata.
//
// What they say comes from the configuration and from the authorization server's
// own metadata, never from a request.
package wellknown
