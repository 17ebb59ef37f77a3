package fhir

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// balp fills in what IHE's profiles ask for: a client, a server, the user when there
// is one, the request by its id, what was read or searched, and the patient.
func (e *AuditEncoder) balp(r *auditResource, event *AuditEvent) {
	e.balpAgents(r, event)
	transaction := entity{
		Type: coding{systemBALPEntity, "XrequestId", ""}.orNil(),
		What: &reference{Identifier: &identifier{Value: event.RequestID}},
	}
	if event.Verdict != "" {
		transaction.Detail = []detail{{"verdict", event.Verdict}}
	}
	if event.RequestID != "" {
		r.Entity = append(r.Entity, transaction)
	}
	if event.Purge {
		r.Entity = append(r.Entity, purged(event))
		return
	}
	complete := e.balpData(r, event)
	for _, id := range patients(event) {
		r.Entity = append(r.Entity, entity{
			Type: coding{systemEntityType, "1", "Person"}.orNil(), Role: coding{systemObjectRole, "1", "Patient"}.orNil(),
			What: what(event, "Patient/"+id),
		})
	}
	if profile := profileOf(event); complete && profile != "" && event.ClientID != "" && event.Address != "" {
		r.Meta = &meta{Profile: []string{profileBALP + profile}}
	}
}

// profileOf names the profile of a success; failures have none. Nor has an event about
// two patients, of which the profiles want one.
func profileOf(event *AuditEvent) string {
	who := ""
	switch len(patients(event)) {
	case 0:
	case 1:
		who = "Patient"
	default:
		return ""
	}
	if !succeeded(event) {
		return ""
	}
	switch event.Interaction {
	case Read, Vread:
		return who + "Read"
	case Create:
		return who + "Create"
	case Update, Patch:
		return who + "Update"
	case Delete:
		return who + "Delete"
	case SearchType, SearchSystem:
		return who + "Query"
	}
	return ""
}

// roles are what client, server and user are called. To a reader data comes, from who
// writes or asks it goes, and to delete moves none.
func roles(action string) (client, server, user coding) {
	source, destination := coding{systemDCM, "110153", "Source Role ID"}, coding{systemDCM, "110152", "Destination Role ID"}
	recipient := coding{systemParticipation, "IRCP", "information recipient"}
	author := coding{systemParticipation, "AUT", "author (originator)"}
	switch action {
	case "R":
		return destination, source, recipient
	case "C", "U":
		return source, destination, author
	case "D":
		return coding{systemDCM, "110150", "Application"}, coding{systemParticipant, "custodian", "Custodian"}, author
	}
	return source, destination, recipient
}

// balpAgents writes who took part.
func (e *AuditEncoder) balpAgents(r *auditResource, event *AuditEvent) {
	client, server, person := roles(r.Action)
	app := agent{Type: concept(client), Who: &reference{Display: "unknown"}, Network: address(event.Address)}
	switch {
	case event.Purge:
		app.Who, app.Requestor = &reference{Display: "administrator"}, true
		r.Agent = []agent{app, e.server(server)}
		return
	case event.ClientID != "":
		app.Who = &reference{Identifier: &identifier{Value: event.ClientID}}
	}
	user := e.user(event)
	if user == nil {
		app.Requestor, app.Policy = true, policy(event)
		r.Agent = []agent{app, e.server(server)}
		return
	}
	r.Agent = []agent{app, e.server(server), {
		Type: concept(person), Who: user, Requestor: true, Policy: policy(event),
	}}
}

func (e *AuditEncoder) server(role coding) agent {
	return agent{
		Type: concept(role), Who: &reference{Identifier: &identifier{Value: e.Site}},
		Network: &network{Address: e.Site, Type: networkName},
	}
}

// user is who the token speaks for: by reference when it is a resource of this
// server, else as the authorization server knows him.
func (e *AuditEncoder) user(event *AuditEvent) *reference {
	own := event.User
	if rest, ok := strings.CutPrefix(own, e.Base+"/"); ok && e.Base != "" {
		own = rest
	}
	var known *identifier
	if event.Subject != "" {
		known = &identifier{System: uri(event.Issuer), Value: event.Subject}
	}
	switch {
	case isRelative(own) && succeeded(event):
		return &reference{Reference: own, Type: typeOf(own), Identifier: known}
	case known != nil:
		return &reference{Identifier: known}
	case event.User != "":
		return &reference{Identifier: &identifier{Value: event.User}}
	}
	return nil
}

// uri returns s if it can stand where FHIR wants a URI.
func uri(s string) string {
	if strings.ContainsAny(s, " \t\"<>\\") {
		return ""
	}
	return s
}

// policy names the token, never by a part of it.
func policy(event *AuditEvent) []string {
	switch {
	case event.TokenID != "":
		return []string{"urn:ietf:params:oauth:jti:" + url.PathEscape(event.TokenID)}
	case event.TokenRef != "":
		return []string{"urn:fhir-introspection-sidecar:token-ref:" + event.TokenRef}
	}
	return nil
}

// balpData writes what was asked for, and reports whether that is all a profile
// wants to know.
func (e *AuditEncoder) balpData(r *auditResource, event *AuditEvent) (complete bool) {
	switch event.Interaction {
	case SearchType, SearchSystem:
		query := entity{
			Type: coding{systemEntityType, "2", "System Object"}.orNil(), Role: coding{systemObjectRole, "24", "Query"}.orNil(),
			Query: base64.StdEncoding.EncodeToString([]byte(event.Query)),
		}
		if query.Query == "" {
			query.Type = resourceType(event.Type)
		}
		r.Entity = append(r.Entity, query)
		return query.Query != ""
	case Unknown, "":
		return false
	}
	data := entity{Type: coding{systemEntityType, "2", "System Object"}.orNil(), Role: coding{systemObjectRole, "4", "Domain Resource"}.orNil()}
	if event.Resource == "" {
		data.Type = resourceType(event.Type)
		if data.Type != nil {
			r.Entity = append(r.Entity, data)
		}
		return false
	}
	data.What = what(event, event.Resource)
	r.Entity = append(r.Entity, data)
	return true
}

// resourceType is all that is known of what has no id.
func resourceType(name string) *coding { return coding{systemResourceTypes, r4Type(name), ""}.orNil() }

// purged lists what was to be forgotten; nothing means everything.
func purged(event *AuditEvent) entity {
	all := entity{Type: coding{systemEntityType, "2", "System Object"}.orNil(), Name: "cached verdicts"}
	for _, d := range []detail{
		{"client_id", event.ClientID}, {"sub", event.Subject}, {"patient", event.Patient}, {"token_ref", event.TokenRef},
	} {
		if d.Value != "" {
			all.Detail = append(all.Detail, d)
		}
	}
	return all
}
