// Package guard tells from a request's method, path and query alone whether it
// stays with one patient.
//
// It reads no bodies and no answers, and rewrites nothing. What belongs to a
// patient is told by the patient compartment of FHIR R4: which types, and by which
// search parameters. Its table, compartment.txt, is made from the
// CompartmentDefinition by deploy/tests/definitions.
//
// A request is outside when its URL names another patient where the compartment
// looks for one, and inside only when every resource that can come back belongs to
// the patient. Everything that isn't sure is unknown: a read by id, a search without
// a patient, one that reaches beyond its criteria.
package guard
