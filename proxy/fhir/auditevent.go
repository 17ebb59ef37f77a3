package fhir

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// AuditShape is how an AuditEvent is written. The shapes exclude each other.
//
// What failed, and what was deleted, is named by identifier in each of them: a
// reference to what isn't there would be refused by the server that gets the event.
type AuditShape uint8

// The shapes.
const (
	// BALP is IHE Basic Audit Log Patterns, whose profiles are claimed only where
	// everything they ask for is known.
	BALP AuditShape = iota
	// KT2 is Koppeltaal's KT2_AuditEvent, in which an agent is a Device and nothing
	// else.
	KT2
)

// AuditEvent is what an R4 AuditEvent says about one request. What isn't known is
// empty and is left out.
type AuditEvent struct {
	// Sequence counts the events of the process from 1.
	Sequence uint64
	// Recorded is when the response ended.
	Recorded time.Time
	// Outcome is a code of audit-event-outcome: 0, 4, 8 or 12.
	Outcome string
	// Description says in a few words why it isn't a success.
	Description string

	// Interaction and Type are what was asked for.
	Interaction Interaction
	Type        string
	// Resource is Type/id, or Type/id/_history/version.
	Resource string
	// Query is the raw query, if it is to be recorded.
	Query string
	// Purge is set for a command to forget cached verdicts, and nothing was asked of
	// the FHIR server. ClientID, Subject, Patient and TokenRef are then what was to
	// be forgotten.
	Purge bool

	// ClientID, Issuer, Subject, User (fhirUser), Patient and TokenID (jti) are
	// the token's, as the authorization server says.
	ClientID, Issuer, Subject, User, Patient, TokenID string
	// TokenRef is a keyed hash that stands for the token.
	TokenRef string
	// Address is the client's IP address.
	Address string
	// Verdict is where the verdict came from.
	Verdict string

	// RequestID, CorrelationID and TraceID are the request's.
	RequestID, CorrelationID, TraceID string
}

// AuditEncoder writes AuditEvents, each as one line of JSON. Its zero value writes BALP events of nobody.
type AuditEncoder struct {
	// Shape is how events are written.
	Shape AuditShape
	// Host and Start, when the process began, make the ids of events unique.
	Host  string
	Start time.Time
	// Site is the host name by which clients know the FHIR server.
	Site string
	// Base is the FHIR base as clients write it, or "". References below it are
	// written relative.
	Base string
	// Observer is who records: a reference such as Device/1, or a name.
	Observer string
}

// Encode returns the event as one line of JSON, without a newline.
func (e *AuditEncoder) Encode(event *AuditEvent) ([]byte, error) {
	r := auditResource{
		ResourceType: "AuditEvent",
		ID:           e.id(event.Sequence),
		Action:       actionOf(event),
		Recorded:     event.Recorded.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Outcome:      event.Outcome,
		OutcomeDesc:  event.Description,
		Type:         coding{systemEventType, "rest", "Restful Operation"},
		Source:       source{Site: e.Site, Observer: e.observer()},
	}
	switch event.Interaction {
	case "", Unknown:
	default:
		r.Subtype = []coding{{systemInteraction, string(event.Interaction), ""}}
	}
	if event.Purge {
		r.Type, r.Subtype = coding{systemDCM, "110113", "Security Alert"}, nil
	}
	if e.Shape == KT2 {
		e.koppeltaal(&r, event)
	} else {
		e.balp(&r, event)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding an AuditEvent: %w", err)
	}
	return line, nil
}

// id is the same for the same event however often it is sent, and has the sequence
// number at its end, so that a gap shows.
func (e *AuditEncoder) id(sequence uint64) string {
	end := fmt.Sprintf("-%d-%d", e.Start.UnixMilli(), sequence)
	host := strings.Map(func(c rune) rune {
		if c == '.' || c == '-' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			return c
		}
		return '-'
	}, e.Host)
	return host[:min(len(host), maxID-len(end))] + end
}

// actionOf returns a code of audit-event-action.
func actionOf(event *AuditEvent) string {
	switch event.Interaction {
	case Create:
		return "C"
	case Read, Vread, HistoryInstance, HistoryType, HistorySystem, Capabilities:
		return "R"
	case Update, Patch:
		return "U"
	case Delete:
		return "D"
	}
	return "E"
}

// observer is a reference when it is written as one, else a name.
func (e *AuditEncoder) observer() reference {
	name := e.Observer
	if name == "" {
		name = e.Site
	}
	if isReference(name) {
		return reference{Reference: name, Type: typeOf(name)}
	}
	observer := reference{Identifier: &identifier{Value: name}}
	if e.Shape == KT2 {
		observer.Type = "Device"
	}
	return observer
}

// isReference holds for Type/id, and for a URL that ends so.
func isReference(s string) bool {
	if u, err := url.Parse(s); err == nil && u.IsAbs() {
		s = strings.Join(lastTwo(s), "/")
	}
	return isRelative(s)
}

func lastTwo(s string) []string {
	parts := strings.Split(s, "/")
	return parts[max(0, len(parts)-2):]
}

func typeOf(s string) string { return lastTwo(s)[0] }

func isRelative(s string) bool {
	interaction, _ := ParseInteraction("GET", s)
	return interaction == Read && !strings.HasSuffix(s, "/")
}

// succeeded: what the event names is there.
func succeeded(event *AuditEvent) bool { return event.Outcome == "0" }

// what names a resource: by reference when it is known to be there.
func what(event *AuditEvent, name string) *reference {
	if !succeeded(event) || event.Interaction == Delete {
		resourceType, _, _ := strings.Cut(name, "/")
		return &reference{Type: r4Type(resourceType), Identifier: &identifier{Value: name}}
	}
	return &reference{Reference: name}
}

// patients are those of the token and of the path, when they are two.
func patients(event *AuditEvent) (ids []string) {
	if event.Purge {
		return nil
	}
	if event.Patient != "" {
		ids = append(ids, event.Patient)
	}
	if rest, ok := strings.CutPrefix(event.Resource, "Patient/"); ok {
		if id, _, _ := strings.Cut(rest, "/"); id != event.Patient {
			ids = append(ids, id)
		}
	}
	return ids
}
