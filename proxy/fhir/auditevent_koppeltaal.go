package fhir

import (
	"encoding/base64"
)

// koppeltaal fills in KT2_AuditEvent: two agents that are Devices, the trace ids as
// extensions, and entities by their resource type. It has no place for a user, a
// token or details.
func (e *AuditEncoder) koppeltaal(r *auditResource, event *AuditEvent) {
	r.Meta = &meta{Profile: []string{profileKT2}}
	for _, id := range []struct{ name, value string }{
		{"request-id", event.RequestID}, {"correlation-id", event.CorrelationID}, {"trace-id", event.TraceID},
	} {
		if isID(id.value) {
			r.Extension = append(r.Extension, extension{URL: extensionKT2 + id.name, ValueID: id.value})
		}
	}
	observer := e.observer()
	r.Agent = []agent{
		{
			Type: concept(coding{systemDCM, "110153", "Source Role ID"}), Who: device(event.ClientID, event.Purge),
			Requestor: true, Network: address(event.Address),
		},
		{Type: concept(coding{systemDCM, "110152", "Destination Role ID"}), Who: &observer},
	}
	r.Entity = koppeltaalEntities(event)
}

// device is the client: TOP-KT-012b wants Device/<client_id>.
func device(clientID string, purge bool) *reference {
	switch {
	case purge:
		return &reference{Type: "Device", Display: "administrator"}
	case clientID == "":
		return &reference{Type: "Device", Display: "unknown"}
	case isID(clientID):
		return &reference{Reference: "Device/" + clientID, Type: "Device"}
	}
	return &reference{Type: "Device", Identifier: &identifier{Value: clientID}}
}

func koppeltaalEntities(event *AuditEvent) (entities []entity) {
	switch {
	case event.Purge:
	case event.Resource != "":
		entities = append(entities, entity{Type: resourceType(event.Type), What: what(event, event.Resource)})
	case event.Type != "":
		one := entity{Type: resourceType(event.Type)}
		if event.Interaction == SearchType {
			one.Query = base64.StdEncoding.EncodeToString([]byte(event.Query))
		}
		if one.Type != nil || one.Query != "" {
			entities = append(entities, one)
		}
	}
	for _, id := range patients(event) {
		if event.Resource != "Patient/"+id {
			entities = append(entities, entity{Type: resourceType("Patient"), What: what(event, "Patient/"+id)})
		}
	}
	if len(entities) == 0 { // the profile wants one
		object := &reference{Display: "request"}
		switch {
		case event.Purge:
			object.Display = "cached verdicts"
		case event.RequestID != "":
			object = &reference{Identifier: &identifier{Value: event.RequestID}}
		}
		entities = []entity{{Type: coding{systemEntityType, "2", "System Object"}.orNil(), What: object}}
	}
	return entities
}
