package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recorded runs requests and returns what the audit log has of each.
func recorded(t *testing.T, e env, run func(w *world)) (lines []string) {
	t.Helper()
	e["AUDIT_LOG"] = filepath.Join(t.TempDir(), "audit.json")
	w := start(t, e)
	run(w)
	w.terminate(t)
	text, err := os.ReadFile(e["AUDIT_LOG"])
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	return slices.Collect(strings.Lines(string(text)))
}

func TestBlackboxAuditRecord(t *testing.T) {
	t.Parallel()
	lines := recorded(t, env{"TRUSTED_PROXIES": "127.0.0.0/8,10.0.0.0/8", "AUDIT_QUERY": "true"}, func(w *world) {
		w.token("a", claims{"jti": "j-1"})
		w.up.bytesOn("/fhir/Task", "HTTP/1.1 201 Created\r\nLocation: http://internal/fhir/Task/7/_history/1\r\nContent-Length: 0\r\n\r\n", true)
		w.ask(t, "GET /fhir/Task/55/_history/2?x=y", bearer("a"), "X-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.1.2.3").is(t, 200)
		w.ask(t, "POST /fhir/Task", bearer("a"), "Content-Length: 0").is(t, 201)
		w.ask(t, "GET /fhir/Patient/123/$everything", bearer("a"), "X-Forwarded-For: unknown").is(t, 200)
		w.ask(t, "GET /fhir/Task?access_token=zyx", bearer("a")).is(t, 400)
		w.ask(t, "GET /fhir/Task?q=SECRET").is(t, 401)
	})
	want := [][]string{
		{`"resource":"Task/55/_history/2"`, `"jti":"j-1"`, `"client_address":"203.0.113.7"`, `"peer":"127.0.0.1"`, `"query":"x=y"`},
		{`"resource":"Task/7/_history/1"`, `"interaction":"create"`},
		{`"resource":"Patient/123"`, `"operation":"$everything"`, `"interaction":"operation"`},
		{`"reason":"malformed"`},
		{`"reason":"no_token"`},
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d records, want %d", len(lines), len(want))
	}
	for i, parts := range want {
		for _, part := range parts {
			if !strings.Contains(lines[i], part) {
				t.Errorf("got %s, want %s in it", lines[i], part)
			}
		}
		if strings.Contains(lines[i], "zyx") || strings.Contains(lines[i], "SECRET") {
			t.Errorf("got %s, want nothing of a token or of a query that nobody was let through with", lines[i])
		}
	}
}

// event is an AuditEvent as its reader sees it.
type auditEvent struct {
	ResourceType, ID, Action, Outcome, OutcomeDesc string
	Meta                                           struct{ Profile []string }
	Subtype                                        []struct{ Code string }
	Extension                                      []struct{ URL, ValueID string }
	Agent                                          []struct {
		Type struct{ Coding []struct{ Code string } }
		Who  struct {
			Reference, Display string
			Identifier         struct{ System, Value string }
		}
		Requestor bool
		Policy    []string
		Network   struct{ Address string }
	}
	Entity []struct {
		What struct {
			Reference  string
			Identifier struct{ Value string }
		}
		Query string
	}
}

func events(t *testing.T, lines []string) (all []auditEvent) {
	t.Helper()
	for _, line := range lines {
		var e auditEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ResourceType != "AuditEvent" || e.ID == "" {
			t.Fatalf("got %q (%v), want an AuditEvent", line, err)
		}
		all = append(all, e)
	}
	return all
}

func (e *auditEvent) names() (references, identifiers string) {
	for _, entity := range e.Entity {
		references += " " + entity.What.Reference
		identifiers += " " + entity.What.Identifier.Value
	}
	return references, identifiers
}

func TestBlackboxAuditEventBALP(t *testing.T) {
	t.Parallel()
	lines := recorded(t, env{"AUDIT_FORMAT": "fhir-balp", "SCOPE_ENFORCEMENT": "coarse", "PUBLIC_URL": "https://fhir.example.org/fhir", "AUDIT_OBSERVER": "Device/1"}, func(w *world) {
		w.token("a", claims{"jti": "j-1", "scope": "user/*.cruds", "patient": "p1"})
		w.token("b", claims{"scope": "user/Task.r", "patient": "p1"})
		w.up.bytesOn("/fhir/AuditEvent", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", true)
		w.ask(t, "GET /fhir/Patient/p2", bearer("a"), "X-Request-Id: r-1").is(t, 200)
		w.ask(t, "GET /fhir/Observation?code=SECRET", bearer("a")).is(t, 200)
		w.ask(t, "DELETE /fhir/Observation/7", bearer("b")).is(t, 403)
		w.ask(t, "GET /fhir/Observation/7").is(t, 401)
		w.ask(t, "POST /fhir", bearer("a"), "Content-Length: 0").is(t, 200)
		w.ask(t, "POST /fhir/AuditEvent", bearer("a"), "Content-Length: 0").is(t, 201) // leaves none
		w.ask(t, "GET /fhir/metadata").is(t, 200)
		w.ask(t, "GET /fhir/Patient/p1", bearer("a")).is(t, 200)
	})
	all := events(t, lines)
	if len(all) != 7 || strings.Contains(strings.Join(lines, ""), "SECRET") {
		t.Fatalf("got %d events, want 7 without a search value: %s", len(all), lines)
	}
	read := all[0]
	references, identifiers := read.names()
	if read.Meta.Profile != nil || read.Action != "R" || read.Outcome != "0" ||
		read.Agent[0].Type.Coding[0].Code != "110152" || read.Agent[1].Type.Coding[0].Code != "110153" || read.Agent[0].Who.Identifier.Value != "module-7" ||
		read.Agent[2].Policy[0] != "urn:ietf:params:oauth:jti:j-1" || !strings.Contains(references, "Patient/p1") || !strings.Contains(references, "Patient/p2") ||
		!strings.Contains(identifiers, "r-1") || read.Agent[0].Network.Address != "127.0.0.1" {
		t.Errorf("got %s, want a read with both patients, of whom a profile takes one", lines[0])
	}
	if search := all[1]; search.Action != "E" || search.Agent[0].Type.Coding[0].Code != "110153" || search.Meta.Profile != nil || search.Entity[1].Query != "" {
		t.Errorf("got %s, want a search without its query and profile", lines[1])
	}
	denied := all[2]
	if references, identifiers := denied.names(); denied.Outcome != "4" || denied.OutcomeDesc != "insufficient_scope: interaction" || strings.TrimSpace(references) != "" || !strings.Contains(identifiers, "Observation/7") {
		t.Errorf("got %s, want a denial that refers to nothing", lines[2])
	}
	if unknown := all[3]; unknown.Outcome != "4" || len(unknown.Agent) != 2 || unknown.Agent[0].Who.Display != "unknown" {
		t.Errorf("got %s, want nobody invented", lines[3])
	}
	if bundle := all[4]; bundle.Subtype[0].Code != "transaction" || bundle.Action != "E" {
		t.Errorf("got %s, want one event for the bundle", lines[4])
	}
	if all[5].Subtype[0].Code != "capabilities" || !strings.HasSuffix(all[5].ID, "-6") {
		t.Errorf("got %s, want the sixth event, of the capabilities", lines[5])
	}
	if !strings.HasSuffix(strings.Join(all[6].Meta.Profile, ""), "IHE.BasicAudit.PatientRead") {
		t.Errorf("got %s, want a PatientRead", lines[6])
	}
}

func TestBlackboxAuditEventQuery(t *testing.T) {
	t.Parallel()
	lines := recorded(t, env{"AUDIT_FORMAT": "fhir-balp", "AUDIT_QUERY": "true"}, func(w *world) {
		w.ask(t, "GET /fhir/Observation?code=a%7Cb&x", good).is(t, 200)
	})
	e := events(t, lines)[0]
	if got, _ := base64.StdEncoding.DecodeString(e.Entity[1].Query); string(got) != "code=a%7Cb&x" || !strings.HasSuffix(e.Meta.Profile[0], "PatientQuery") {
		t.Errorf("got %s, want the raw query and its profile", lines[0])
	}
}

func TestBlackboxAuditEventKoppeltaal(t *testing.T) {
	t.Parallel()
	lines := recorded(t, env{"AUDIT_FORMAT": "fhir-kt2", "AUDIT_OBSERVER": "Device/1"}, func(w *world) {
		w.ask(t, "GET /fhir/Task/55", good, "X-Request-Id: r-1", "X-Correlation-Id: c-1", "X-Trace-Id: t-1").is(t, 200)
		w.ask(t, "GET /fhir/Task/55", "X-Request-Id: r-2").is(t, 401)
	})
	all := events(t, lines)
	if e := all[0]; e.Agent[0].Who.Reference != "Device/module-7" || !e.Agent[0].Requestor || len(e.Extension) != 3 || e.Extension[0].ValueID != "r-1" ||
		strings.Contains(lines[0], `"policy"`) || strings.Contains(lines[0], "p-42") {
		t.Errorf("got %s, want a device, three ids and no user", lines[0])
	}
	if e := all[1]; len(e.Extension) != 1 || e.Outcome != "4" || e.Agent[0].Who.Reference != "" {
		t.Errorf("got %s, want a denial of nobody", lines[1])
	}
}
