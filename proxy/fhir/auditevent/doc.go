// Package auditevent writes FHIR R4 AuditEvents: one line of JSON for one request
// to a FHIR server.
//
// There are two shapes, which exclude each other. BALP is IHE's Basic Audit Log
// Patterns, whose profiles are claimed only where everything they ask for is known.
// KT2 is Koppeltaal's KT2_AuditEvent, in which an agent is a Device and nothing
// else.
//
// What failed, and what was deleted, is named by identifier: a reference to what
// isn't there would be refused by the server that the event is sent to.
package auditevent
