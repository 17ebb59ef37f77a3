// Package smart reads SMART App Launch resource scopes and tells what they
// permit: create, read, update, delete and search on a FHIR resource type.
//
//	patient/Observation.rs      SMART 2: letters of "cruds", in that order
//	user/*.read                 SMART 1: read, write or *
//	system/Task.r?status=ready  SMART 2.1: with search parameters
//
// Search parameters narrow a scope to some resources of its type. This package
// checks that they are well formed and takes the scope for its whole type: only
// the FHIR server can tell which resources match.
//
// Every other scope (openid, launch/patient, offline_access, URLs) permits
// nothing here. So does one that is nearly a resource scope, such as
// patient/Observation.sr: guessing would widen it.
//
// It also makes the two documents by which clients find out how to get a token:
// .well-known/smart-configuration, and RFC 9728's protected resource metadata. What
// they say comes from the configuration and from the authorization server's own
// metadata, never from a request.
//
// Source: SMART App Launch 2.2, "Scopes and Launch Context", and "FHIR Authorization
// Endpoint and Capabilities Discovery".
package smart
