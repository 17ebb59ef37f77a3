package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// world is a FHIR server with the records of two patients, who have to do with each
// other: one's mother reports and performs what is about the other.
type world struct {
	base       string
	p, q       string            // ids of the patients
	owner      map[string]string // Type/id to p, q or "" for nobody's
	ids        map[string][]string
	encounters []string
}

// server returns the base of the FHIR server to ask.
func server(t *testing.T) string {
	t.Helper()
	base := strings.TrimRight(os.Getenv("FHIR_SERVER"), "/")
	if base == "" {
		t.Skip("FHIR_SERVER must name the base of an empty FHIR server; run.sh sets it")
	}
	return base
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{base: server(t), owner: map[string]string{}, ids: map[string][]string{}}
	w.p = w.create(t, "Patient", nil, "")
	w.q = w.create(t, "Patient", map[string]any{"link": []any{map[string]any{"other": ref("Patient/" + w.p), "type": "seealso"}}}, "")
	w.owner["Patient/"+w.p], w.owner["Patient/"+w.q] = w.p, w.q
	practitioner := w.create(t, "Practitioner", map[string]any{"name": []any{map[string]any{"family": "Smith"}}}, "")
	for _, pair := range [][2]string{{w.p, w.q}, {w.q, w.p}} {
		me, other := "Patient/"+pair[0], "Patient/"+pair[1]
		for range 3 {
			encounter := w.create(t, "Encounter", map[string]any{"status": "finished", "class": map[string]any{"code": "AMB"}, "subject": ref(me)}, pair[0])
			w.encounters = append(w.encounters, encounter)
			code := map[string]any{"coding": []any{map[string]any{"system": "http://loinc.org", "code": "1-8"}}}
			first := w.create(t, "Observation", map[string]any{"status": "final", "code": code, "subject": ref(me), "performer": []any{ref(other)}, "encounter": ref("Encounter/" + encounter)}, pair[0])
			w.create(t, "Observation", map[string]any{"status": "final", "code": code, "subject": ref(me), "focus": []any{ref(other)}, "hasMember": []any{ref("Observation/" + first)}}, pair[0])
			w.create(t, "Condition", map[string]any{"subject": ref(me), "asserter": ref(other), "code": code}, pair[0])
			w.create(t, "Procedure", map[string]any{"status": "completed", "subject": ref(me), "performer": []any{map[string]any{"actor": ref(other)}}}, pair[0])
			w.create(t, "DocumentReference", map[string]any{"status": "current", "subject": ref(me), "author": []any{ref(other)}, "content": []any{map[string]any{"attachment": map[string]any{"title": "x"}}}}, pair[0])
			w.create(t, "Communication", map[string]any{"status": "completed", "subject": ref(me), "sender": ref(other), "recipient": []any{ref(other)}}, pair[0])
			w.create(t, "AllergyIntolerance", map[string]any{"patient": ref(me), "recorder": ref(other), "asserter": ref(other)}, pair[0])
			w.create(t, "Coverage", map[string]any{"status": "active", "beneficiary": ref(me), "subscriber": ref(other), "payor": []any{ref(other)}}, pair[0])
			w.create(t, "Task", map[string]any{"status": "ready", "intent": "order", "for": ref(me), "owner": ref("Practitioner/" + practitioner)}, pair[0])
			w.create(t, "Provenance", map[string]any{
				"recorded": "2026-01-01T00:00:00Z", "target": []any{ref("Observation/" + first)},
				"agent": []any{map[string]any{"who": ref(other)}},
			}, pair[0])
		}
	}
	return w
}

func ref(reference string) map[string]any { return map[string]any{"reference": reference} }

func (w *world) create(t *testing.T, resourceType string, members map[string]any, owner string) (id string) {
	t.Helper()
	all := map[string]any{"resourceType": resourceType}
	for name, value := range members {
		all[name] = value
	}
	body, _ := json.Marshal(all)
	res, err := http.Post(w.base+"/"+resourceType, "application/fhir+json", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("creating %s: %v", resourceType, err)
	}
	defer res.Body.Close()
	content, _ := io.ReadAll(res.Body)
	var made struct{ ID string }
	if err := json.Unmarshal(content, &made); err != nil || res.StatusCode != http.StatusCreated || made.ID == "" {
		t.Fatalf("creating %s: got status %d, %v, want 201: %.300s", resourceType, res.StatusCode, err, content)
	}
	w.owner[resourceType+"/"+made.ID] = owner
	w.ids[resourceType] = append(w.ids[resourceType], made.ID)
	return made.ID
}

var client = &http.Client{Timeout: 30 * time.Second}

// ask sends a request line and returns the resources that come back.
func (w *world) ask(t *testing.T, target string) (resources []string, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(target, "?")
	req.URL.Opaque, req.URL.RawQuery = req.URL.Path+"/"+path, query
	req.Header.Set("Accept", "application/fhir+json")
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	defer res.Body.Close()
	var answer any
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil && err != io.EOF {
		return nil, res.StatusCode
	}
	return found(answer, nil), res.StatusCode
}

// found lists all resources in a response, whatever they are in.
func found(value any, all []string) []string {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			all = found(item, all)
		}
	case map[string]any:
		if resourceType, id := fmt.Sprint(v["resourceType"]), fmt.Sprint(v["id"]); v["resourceType"] != nil && v["id"] != nil {
			all = append(all, resourceType+"/"+id)
		}
		for _, member := range v {
			all = found(member, all)
		}
	}
	return all
}
