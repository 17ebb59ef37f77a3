// Package differential holds the patient guard against a FHIR server: what it calls
// inside must not bring back what is another patient's.
package differential

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// urls is how many URLs are made, unless URLS says otherwise.
const urls = 100_000

// maker makes URLs out of what clients, and attackers, write.
type maker struct {
	*world
	r *rand.Rand
}

func (m *maker) one(of ...string) string { return of[m.r.IntN(len(of))] }

func (m *maker) resourceType() string {
	return m.one("Observation", "Condition", "Procedure", "DocumentReference", "Communication", "AllergyIntolerance",
		"Coverage", "Task", "Provenance", "Encounter", "Patient", "Practitioner")
}

func (m *maker) patient() string { return m.one(m.p, m.p, m.p, m.q) }

// value is a reference to a patient in one of its ways.
func (m *maker) value() string {
	id := m.patient()
	return m.one(id, "Patient/"+id, "Patient/"+id, m.base+"/Patient/"+id, id+","+m.patient(), "Patient/"+id+","+m.one("", "Patient/"+m.patient(), "x"), "",
		"patient/"+id, "Group/"+id, "Patient/"+id+"/_history/1", id+"|", "http://elsewhere.example/fhir/Patient/"+id)
}

func (m *maker) parameter() string {
	name := m.one("patient", "patient", "patient", "subject", "subject", "subject:Patient", "patient:Patient", "beneficiary", "performer", "author",
		"patient:not", "patient:missing", "patient:identifier", "PATIENT", "recorder", "asserter", "sender", "focus", "subject:Group", "for")
	switch m.r.IntN(10) {
	case 0:
		return m.one("_include=Observation:focus", "_include=Observation:has-member", "_include=*", "_include:iterate=Observation:performer", "_Include=Observation:focus",
			"_revinclude=Provenance:target", "_revinclude=Observation:performer", "_revinclude=*", "_include=Condition:asserter", "_include=Coverage:subscriber")
	case 1:
		return m.one("_has:Observation:performer:code=1-8", "_has:Provenance:target:agent=Patient/"+m.patient(), "subject.name=x", "patient._id="+m.patient(),
			"encounter.subject=Patient/"+m.patient(), "subject:Patient._id="+m.patient())
	case 2:
		return m.one("_id="+m.patient(), "_id="+m.one(m.ids["Observation"]...), "_count=5", "_sort=-_lastUpdated", "_elements=id", "_summary=false", "_total=accurate",
			"_format=json", "_contained=true", "_containedType=container", "code=1-8", "status=final", "_tag=x", "_offset=0", "link=Patient/"+m.patient(), "_type=Observation,Patient")
	case 3:
		return m.one("", "&", ";", "x=1;patient="+m.patient(), "%zz=1", "patient", "=", "_filter=code eq 1", "_list=1", "_query=x")
	}
	return name + "=" + m.value()
}

func (m *maker) path() string {
	resourceType := m.resourceType()
	switch m.r.IntN(12) {
	case 0:
		return "Patient/" + m.patient()
	case 1:
		return "Patient/" + m.patient() + "/" + m.one("$everything", "_history", "%24everything", "*", "_history/1")
	case 2:
		return "Patient/" + m.patient() + "/" + resourceType
	case 3:
		return "Encounter/" + m.one(m.encounters...) + m.one("", "/"+resourceType)
	case 4:
		return resourceType + m.one("/", "/_history", "/"+m.one(m.ids["Observation"]...))
	}
	return resourceType
}

// url puts path and parameters together, and encodes some of it.
func (m *maker) url() string {
	target, separator := m.path(), "?"
	for range m.r.IntN(4) {
		target, separator = target+separator+m.parameter(), "&"
	}
	if m.r.IntN(4) > 0 {
		return strings.ReplaceAll(target, " ", "%20")
	}
	var b strings.Builder
	for i, c := range []byte(target) {
		plain := strings.IndexByte("/?&=%;+,:", c) >= 0 || m.r.IntN(6) > 0
		switch {
		case c == ' ':
			b.WriteString("%20")
		case plain || i > 0 && strings.HasSuffix(target[:i], "%") || i > 1 && target[i-2] == '%':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// TestNothingOfOthersIsInside asks the server for everything that the guard calls
// inside for the first patient, and looks whose records come back.
func TestNothingOfOthersIsInside(t *testing.T) {
	w := newWorld(t)
	g, err := policy.NewPatientGuard(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := urls
	if set, err := strconv.Atoi(os.Getenv("URLS")); err == nil {
		n = set
	}
	seed := uint64(20261130)
	if set, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = set
	}
	m := &maker{w, rand.New(rand.NewPCG(seed, 1))}
	verdicts, answered, returned := map[policy.Reach]int{}, 0, 0
	for range n {
		target := m.url()
		path, query, _ := strings.Cut(target, "?")
		verdict := g.Judge(&policy.GuardedRequest{Method: "GET", Path: path, Query: query, Base: w.base, Patient: w.p})
		verdicts[verdict]++
		if verdict != policy.ReachInside {
			continue
		}
		resources, status := w.ask(t, target)
		if status == 200 {
			answered++
		}
		for _, resource := range resources {
			returned++
			if w.owner[resource] == w.q {
				t.Errorf("GET %s is inside, and brings back %s of the other patient", target, resource)
			}
		}
	}
	t.Logf("seed %d: %d URLs, %v; the server answered %d of those inside, with %d resources", seed, n, verdicts, answered, returned)
	if verdicts[policy.ReachInside] < n/50 || answered < verdicts[policy.ReachInside]/4 || returned == 0 {
		t.Errorf("too few URLs are inside, or answered, to prove anything")
	}
}
