// Package fhir holds the little FHIR R4 vocabulary a proxy needs: the body of
// a refusal, the format the client wants it in, the name of what a request asks
// for, and the AuditEvent that records it.
//
// It knows nothing about tokens, scopes or HTTP servers, and imports the
// standard library only. Every function here reads what strangers send, so
// each does work that grows no faster than its input, and none can panic.
//
//	fhir.Outcome           R4 OperationOutcome as JSON or XML
//	fhir.Negotiate         _format and Accept to a Format
//	fhir.ParseInteraction  method and path to a restful-interaction code
//	fhir.AuditEncoder      one request as one line of JSON
package fhir
