package fhir

import (
	_ "embed" // types.txt
	"strings"
)

// types lists the resource types of R4, one a line. deploy/tests/definitions makes it.
//
//go:embed types.txt
var types string

// The code systems and profiles that stand in events.
const (
	systemEventType     = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemInteraction   = "http://hl7.org/fhir/restful-interaction"
	systemDCM           = "http://dicom.nema.org/resources/ontology/DCM"
	systemParticipation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	systemParticipant   = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
	systemEntityType    = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemObjectRole    = "http://terminology.hl7.org/CodeSystem/object-role"
	systemResourceTypes = "http://hl7.org/fhir/resource-types"
	systemBALPEntity    = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"

	profileBALP  = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	profileKT2   = "http://koppeltaal.nl/fhir/StructureDefinition/KT2AuditEvent"
	extensionKT2 = "http://koppeltaal.nl/fhir/StructureDefinition/"

	networkName    = "1" // network-type: a machine's name
	networkAddress = "2" // an IP address
)

// auditResource is the part of the R4 AuditEvent that is used here.
type auditResource struct {
	ResourceType string      `json:"resourceType"`
	ID           string      `json:"id"`
	Meta         *meta       `json:"meta,omitempty"`
	Extension    []extension `json:"extension,omitempty"`
	Type         coding      `json:"type"`
	Subtype      []coding    `json:"subtype,omitempty"`
	Action       string      `json:"action"`
	Recorded     string      `json:"recorded"`
	Outcome      string      `json:"outcome"`
	OutcomeDesc  string      `json:"outcomeDesc,omitempty"`
	Agent        []agent     `json:"agent"`
	Source       source      `json:"source"`
	Entity       []entity    `json:"entity,omitempty"`
}

type meta struct {
	Profile []string `json:"profile"`
}

type extension struct {
	URL     string `json:"url"`
	ValueID string `json:"valueId"`
}

type coding struct {
	System  string `json:"system"`
	Code    string `json:"code"`
	Display string `json:"display,omitempty"`
}

// orNil leaves out a coding without a code.
func (c coding) orNil() *coding {
	if c.Code == "" {
		return nil
	}
	return &c
}

type codeableConcept struct {
	Coding []coding `json:"coding"`
}

func concept(c coding) codeableConcept { return codeableConcept{[]coding{c}} }

type identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value"`
}

type reference struct {
	Reference  string      `json:"reference,omitempty"`
	Type       string      `json:"type,omitempty"`
	Identifier *identifier `json:"identifier,omitempty"`
	Display    string      `json:"display,omitempty"`
}

type network struct {
	Address string `json:"address"`
	Type    string `json:"type"`
}

func address(ip string) *network {
	if ip == "" {
		return nil
	}
	return &network{ip, networkAddress}
}

type agent struct {
	Type      codeableConcept `json:"type"`
	Who       *reference      `json:"who,omitempty"`
	Requestor bool            `json:"requestor"`
	Policy    []string        `json:"policy,omitempty"`
	Network   *network        `json:"network,omitempty"`
}

type source struct {
	Site     string    `json:"site,omitempty"`
	Observer reference `json:"observer"`
}

type entity struct {
	What   *reference `json:"what,omitempty"`
	Type   *coding    `json:"type,omitempty"`
	Role   *coding    `json:"role,omitempty"`
	Name   string     `json:"name,omitempty"`
	Query  string     `json:"query,omitempty"`
	Detail []detail   `json:"detail,omitempty"`
}

type detail struct {
	Type  string `json:"type"`
	Value string `json:"valueString"`
}

// r4Type returns a resource type that R4 has, and "" for what a client made up: a
// validator refuses a code that its code system lacks.
func r4Type(name string) string {
	if strings.HasPrefix(types, name+"\n") || strings.Contains(types, "\n"+name+"\n") {
		return name
	}
	return ""
}
