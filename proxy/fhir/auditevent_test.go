package fhir_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

func encoder(shape fhir.AuditShape) *fhir.AuditEncoder {
	return &fhir.AuditEncoder{
		Shape: shape, Host: "fhir-0", Start: time.UnixMilli(1764526000000), Site: "fhir.example.org",
		Base: "https://fhir.example.org/fhir", Observer: "Device/sidecar",
	}
}

// event is the read of a resource by a user with a patient in context.
func event(change func(*fhir.AuditEvent)) *fhir.AuditEvent {
	e := &fhir.AuditEvent{
		Sequence: 7, Recorded: time.UnixMilli(1764526800123), Outcome: "0",
		Interaction: fhir.Read, Type: "Observation", Resource: "Observation/7",
		ClientID: "app", Issuer: "https://as.example.org", Subject: "u-1", User: "Practitioner/5", Patient: "p1",
		TokenID: "j-1", TokenRef: "0a1b2c3d", Address: "192.0.2.7", Verdict: "hit",
		RequestID: "r-1", CorrelationID: "c-1", TraceID: "t-1",
	}
	if change != nil {
		change(e)
	}
	return e
}

func denied(outcome, description string) func(*fhir.AuditEvent) {
	return func(e *fhir.AuditEvent) {
		e.Outcome, e.Description = outcome, description
	}
}

func nobody(e *fhir.AuditEvent) {
	e.ClientID, e.Issuer, e.Subject, e.User, e.Patient, e.TokenID, e.TokenRef, e.Verdict = "", "", "", "", "", "", "", ""
	e.Outcome, e.Description = "4", "no_token"
}

// example is an event to write down.
type example struct {
	name   string
	change func(*fhir.AuditEvent)
}

var events = []example{
	{"read", nil},
	{"read_patient", func(e *fhir.AuditEvent) { e.Type, e.Resource = "Patient", "Patient/p1" }},
	{"read_other_patient", func(e *fhir.AuditEvent) { e.Type, e.Resource = "Patient", "Patient/p2" }},
	{"read_without_jti", func(e *fhir.AuditEvent) { e.TokenID = "" }},
	{"read_by_client", func(e *fhir.AuditEvent) { e.Subject, e.User, e.Patient = "", "", "" }},
	{"read_user_elsewhere", func(e *fhir.AuditEvent) { e.User = "https://other.example.org/fhir/Practitioner/5" }},
	{"read_user_absolute", func(e *fhir.AuditEvent) { e.User = "https://fhir.example.org/fhir/Practitioner/5" }},
	{"read_without_correlation", func(e *fhir.AuditEvent) { e.CorrelationID = "" }},
	{"read_strange_claims", func(e *fhir.AuditEvent) {
		e.ClientID, e.Subject, e.Issuer = `a "b" <c> \ 😀`, "ü\u2028", "no uri"
	}},
	{"search", func(e *fhir.AuditEvent) { e.Interaction, e.Resource = fhir.SearchType, "" }},
	{"search_with_query", func(e *fhir.AuditEvent) {
		e.Interaction, e.Resource, e.Query = fhir.SearchType, "", "code=x&patient=p1"
	}},
	{"create", func(e *fhir.AuditEvent) { e.Interaction, e.Resource = fhir.Create, "Observation/7/_history/1" }},
	{"create_without_location", func(e *fhir.AuditEvent) { e.Interaction, e.Resource = fhir.Create, "" }},
	{"update", func(e *fhir.AuditEvent) { e.Interaction = fhir.Update }},
	{"patch", func(e *fhir.AuditEvent) { e.Interaction = fhir.Patch }},
	{"read_made_up_type", func(e *fhir.AuditEvent) {
		e.Type, e.Resource, e.Outcome, e.Description = "Gone", "Gone/1", "4", "status 404"
	}},
	{"search_made_up_type", func(e *fhir.AuditEvent) {
		e.Interaction, e.Type, e.Resource, e.Patient = fhir.SearchType, "Gone", "", ""
	}},
	{"delete", func(e *fhir.AuditEvent) { e.Interaction = fhir.Delete }},
	{"transaction", func(e *fhir.AuditEvent) { e.Interaction, e.Resource, e.Type = fhir.Transaction, "", "" }},
	{"operation", func(e *fhir.AuditEvent) { e.Interaction, e.Type, e.Resource = fhir.Operation, "Patient", "Patient/p1" }},
	{"capabilities", func(e *fhir.AuditEvent) {
		nobody(e)
		e.Outcome, e.Description, e.Interaction, e.Type, e.Resource = "0", "", fhir.Capabilities, "", ""
	}},
	{"no_token", nobody},
	{"denied", denied("4", "insufficient_scope: interaction")},
	{"unavailable", denied("8", "introspection_unavailable")},
	{"bad_path", func(e *fhir.AuditEvent) {
		nobody(e)
		e.Interaction, e.Type, e.Resource = fhir.Unknown, "", ""
	}},
	{"purge", func(e *fhir.AuditEvent) {
		*e = fhir.AuditEvent{Sequence: 8, Recorded: e.Recorded, Outcome: "0", Purge: true, Patient: "p1", Address: "192.0.2.7"}
	}},
}

// TestGolden writes every event down in both shapes.
func TestGolden(t *testing.T) {
	for name, shape := range map[string]fhir.AuditShape{"balp": fhir.BALP, "kt2": fhir.KT2} {
		for _, tt := range events {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				line, err := encoder(shape).Encode(event(tt.change))
				if err != nil {
					t.Fatalf("Encode: got error %v, want none", err)
				}
				if bytes.ContainsAny(line, "\n\r") || !json.Valid(line) {
					t.Errorf("got %s, want one line of JSON", line)
				}
				var pretty bytes.Buffer
				_ = json.Indent(&pretty, line, "", "  ")
				pretty.WriteByte('\n')
				file := filepath.Join("testdata", name+"_"+tt.name+".golden")
				if *update {
					if err := os.WriteFile(file, pretty.Bytes(), 0o600); err != nil {
						t.Fatalf("os.WriteFile: got error %v, want none", err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil || !bytes.Equal(pretty.Bytes(), want) {
					t.Errorf("got\n%s\nwant\n%s(%v; -update writes it)", pretty.Bytes(), want, err)
				}
			})
		}
	}
}

// decoded is an event as its reader sees it.
type decoded struct {
	ID    string
	Meta  struct{ Profile []string }
	Agent []struct {
		Who struct {
			Reference  string
			Identifier struct{ System, Value string }
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
		Query  string
		Detail []any
	}
	Source struct{ Observer struct{ Reference string } }
}

func decode(t *testing.T, shape fhir.AuditShape, e *fhir.AuditEvent) (d decoded, line string) {
	t.Helper()
	raw, err := encoder(shape).Encode(e)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	return d, string(raw)
}

// TestProfilesAreEarned: one is claimed only if all that it wants is there.
func TestProfilesAreEarned(t *testing.T) {
	const base = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	for name, want := range map[string]string{
		"read": "PatientRead", "read_by_client": "Read", "search": "", "search_with_query": "PatientQuery", "create": "PatientCreate",
		"create_without_location": "", "update": "PatientUpdate", "patch": "PatientUpdate", "read_other_patient": "", "delete": "PatientDelete", "denied": "", "no_token": "", "transaction": "", "operation": "",
		"capabilities": "", "purge": "",
	} {
		i := slices.IndexFunc(events, func(e example) bool { return e.name == name })
		d, _ := decode(t, fhir.BALP, event(events[i].change))
		if got := strings.TrimPrefix(strings.Join(d.Meta.Profile, " "), base); got != want {
			t.Errorf("%s: got profile %q, want %q", name, got, want)
		}
	}
}

// profile is what one of IHE's profiles fixes (ITI BALP 1.1, IHE.BasicAudit.*). All of
// them have outcome 0, type rest, one client, one server and at most one user by these
// codes, who and network of client and server, and one entity that is the data or the
// query; the Patient… ones have one patient.
type profile struct {
	action, subtypes, client, server, users, role string
}

var profiles = map[string]profile{
	"Read":   {"R", "read vread", "110152", "110153", "IRCP", "4"},
	"Create": {"C", "create", "110153", "110152", "AUT INF CST", "4"},
	"Update": {"U", "update patch", "110153", "110152", "AUT INF CST", "4"},
	"Delete": {"D", "delete", "110150", "custodian", "AUT INF CST", "4"},
	"Query":  {"E", "search search-type search-system", "110153", "110152", "IRCP", "24"},
}

// TestProfilesAreKept holds what is claimed against the profiles. The same events were
// put through HAPI FHIR's validator with the profiles compiled from their source.
func TestProfilesAreKept(t *testing.T) {
	const base = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	kept := 0
	for _, tt := range events {
		line, err := encoder(fhir.BALP).Encode(event(tt.change))
		var r struct {
			Meta    struct{ Profile []string }
			Type    struct{ Code string }
			Subtype []struct{ Code string }
			Action  string
			Outcome string
			Agent   []map[string]any
			Entity  []map[string]any
		}
		if err != nil || json.Unmarshal(line, &r) != nil {
			t.Fatalf("%s: got %s, %v", tt.name, line, err)
		}
		if len(r.Meta.Profile) == 0 {
			continue
		}
		kept++
		name, patient := strings.CutPrefix(strings.TrimPrefix(r.Meta.Profile[0], base), "Patient")
		want, known := profiles[name]
		codes := map[string]int{}
		for _, agent := range r.Agent {
			code := agent["type"].(map[string]any)["coding"].([]any)[0].(map[string]any)["code"].(string)
			codes[code]++
			isUser := slices.Contains(strings.Fields(want.users), code)
			if agent["who"] == nil || (agent["network"] == nil) != isUser || isUser && agent["requestor"] != true {
				t.Errorf("%s: got agent %v, want who it is, a network unless it is the user, and the user as requestor", tt.name, agent)
			}
			if !isUser && code != want.client && code != want.server {
				t.Errorf("%s: got an agent of type %s, which %s doesn't have", tt.name, code, name)
			}
		}
		roles := map[string]int{}
		for _, entity := range r.Entity {
			if role, ok := entity["role"].(map[string]any); ok {
				roles[role["code"].(string)]++
				if (entity["query"] != nil) != (role["code"] == "24") || (entity["what"] != nil) == (role["code"] == "24") {
					t.Errorf("%s: got entity %v, want what, or the query", tt.name, entity)
				}
			}
		}
		patients := map[bool]int{true: 1}[patient]
		if !known || r.Outcome != "0" || r.Type.Code != "rest" || r.Action != want.action || !slices.Contains(strings.Fields(want.subtypes), r.Subtype[0].Code) ||
			codes[want.client] != 1 || codes[want.server] != 1 || roles[want.role] != 1 || roles["1"] != patients {
			t.Errorf("%s: got %s, which isn't as %s wants it", tt.name, line, r.Meta.Profile[0])
		}
	}
	if kept < len(profiles) {
		t.Errorf("got %d events with a profile, want one for each of %d at least", kept, len(profiles))
	}
}

// TestNothingDangling: what isn't there is never referred to.
func TestNothingDangling(t *testing.T) {
	for _, shape := range []fhir.AuditShape{fhir.BALP, fhir.KT2} {
		for _, change := range []func(*fhir.AuditEvent){
			denied("4", "insufficient_scope"), denied("8", "upstream_error"),
			func(e *fhir.AuditEvent) { e.Interaction = fhir.Delete; e.Patient = "" },
		} {
			d, line := decode(t, shape, event(change))
			for _, entity := range d.Entity {
				if entity.What.Reference != "" {
					t.Errorf("got a reference to %s, want an identifier: %s", entity.What.Reference, line)
				}
			}
		}
	}
}

func TestIDs(t *testing.T) {
	valid := regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)
	for _, host := range []string{"", "fhir-0", "host_with_underscore", strings.Repeat("a", 80), "ümlaut"} {
		for _, sequence := range []uint64{1, 1<<64 - 1} {
			e := encoder(fhir.BALP)
			e.Host = host
			raw, err := e.Encode(event(func(e *fhir.AuditEvent) { e.Sequence = sequence }))
			var d decoded
			if err != nil || json.Unmarshal(raw, &d) != nil || !valid.MatchString(d.ID) {
				t.Errorf("host %q, sequence %d: got id %q, want one of FHIR's grammar", host, sequence, d.ID)
			}
			again, _ := e.Encode(event(func(e *fhir.AuditEvent) { e.Sequence = sequence }))
			if !bytes.Equal(raw, again) {
				t.Errorf("got %s, want %s, as the first time", again, raw)
			}
		}
	}
}

// TestKoppeltaalShape holds the events against what the profile forbids.
func TestKoppeltaalShape(t *testing.T) {
	for _, tt := range events {
		d, line := decode(t, fhir.KT2, event(tt.change))
		if strings.Contains(line, `"policy"`) || strings.Contains(line, `"detail"`) || strings.Contains(line, `"name"`) || strings.Contains(line, `"altId"`) {
			t.Errorf("%s: got %s, want nothing that the profile forbids", tt.name, line)
		}
		if len(d.Agent) != 2 || len(d.Entity) == 0 || strings.Contains(line, "u-1") {
			t.Errorf("%s: got %d agents and %d entities, want 2 and some, and no user: %s", tt.name, len(d.Agent), len(d.Entity), line)
		}
	}
	purge := slices.IndexFunc(events, func(e example) bool { return e.name == "purge" })
	for _, shape := range []fhir.AuditShape{fhir.BALP, fhir.KT2} {
		for _, i := range []int{purge, purge - 1} {
			_, line := decode(t, shape, event(func(e *fhir.AuditEvent) {
				events[i].change(e)
				e.RequestID = ""
			}))
			if strings.Contains(line, `""`) || strings.Contains(line, `{}`) {
				t.Errorf("got %s, want no empty value, which FHIR forbids", line)
			}
		}
	}
	d, _ := decode(t, fhir.KT2, event(nil))
	if got := d.Agent[0].Who.Reference; got != "Device/app" || !d.Agent[0].Requestor {
		t.Errorf("got agent %q, want Device/app as requestor", got)
	}
}

// FuzzEncode finds one line of valid JSON for whatever a claim holds.
func FuzzEncode(f *testing.F) {
	f.Add("app", "u", "https://as", "Practitioner/5", "1", "x=y")
	f.Fuzz(func(t *testing.T, client, subject, issuer, user, patient, query string) {
		for _, shape := range []fhir.AuditShape{fhir.BALP, fhir.KT2} {
			line, err := encoder(shape).Encode(event(func(e *fhir.AuditEvent) {
				e.ClientID, e.Subject, e.Issuer, e.User, e.Patient, e.Query = client, subject, issuer, user, patient, query
			}))
			if err != nil || !json.Valid(line) || bytes.ContainsAny(line, "\n\r") {
				t.Errorf("got %q, %v; want one line of JSON", line, err)
			}
		}
	})
}
