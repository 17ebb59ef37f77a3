package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestFHIRServer(t *testing.T) {
	const task = `{"resourceType":"Task","status":"requested","intent":"order","for":{"reference":"Patient/123"}}`
	for _, tt := range []struct {
		name, method, path, patient, body string
		status                            int
		want                              string // in the body
	}{
		{"capabilities", "GET", "/fhir/metadata", "", "", 200, `"valueUri":"https://as.example/introspect"`},
		{"all tasks", "GET", "/fhir/Task", "", "", 200, `"total":4,`},
		{"a patient's tasks", "GET", "/fhir/Task", "123", "", 200, `"total":2,`},
		{"search by patient", "GET", "/fhir/Task?patient=456", "", "", 200, `"total":1,`},
		{"search by reference", "GET", "/fhir/Task?patient=Patient/456", "", "", 200, `"total":1,`},
		{"search by status", "GET", "/fhir/Task?status=completed", "", "", 200, `"total":0}`},
		{"search by id", "GET", "/fhir/Patient?_id=123", "", "", 200, `"Anna de Vries"`},
		{"search beyond the launch", "GET", "/fhir/Task?patient=456", "123", "", 200, `"total":0}`},
		{"patients in the launch", "GET", "/fhir/Patient", "123", "", 200, `"total":1,`},
		{"another type", "GET", "/fhir/Observation", "", "", 404, `"OperationOutcome"`},
		{"read", "GET", "/fhir/Task/55", "123", "", 200, `"Fill in the sleep diary"`},
		{"read beyond the launch", "GET", "/fhir/Task/58", "123", "", 404, `"not-found"`},
		{"read what isn't there", "GET", "/fhir/Task/1", "", "", 404, `"not-found"`},
		{"create", "POST", "/fhir/Task", "123", task, 201, `"id":"new-8"`},
		{"create beyond the launch", "POST", "/fhir/Task", "456", task, 403, `"forbidden"`},
		{"create another type", "POST", "/fhir/Patient", "", `{"resourceType":"Patient"}`, 400, `"invalid"`},
		{"create nonsense", "POST", "/fhir/Task", "", `{`, 400, `"invalid"`},
		{"delete", "DELETE", "/fhir/Task/55", "", "", 404, `"OperationOutcome"`},
		{"elsewhere", "GET", "/", "", "", 404, `"OperationOutcome"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFHIRServer("https://as.example/introspect")
			req := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			if tt.patient != "" {
				req.Header.Set("X-Launch-Patient", tt.patient)
			}
			rec := httptest.NewRecorder()
			f.handler().ServeHTTP(rec, req)
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.want) {
				t.Errorf("got %d %s, want %d and %s", rec.Code, rec.Body, tt.status, tt.want)
			}
			if !json.Valid(rec.Body.Bytes()) || rec.Header().Get("Content-Type") != "application/fhir+json; charset=utf-8" {
				t.Errorf("got %v %s, want FHIR", rec.Header(), rec.Body)
			}
		})
	}
}

func TestFHIRServerKeepsWhatIsCreated(t *testing.T) {
	f := newFHIRServer("")
	rec := httptest.NewRecorder()
	f.handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/fhir/Task",
		strings.NewReader(`{"resourceType":"Task","id":"mine","status":"draft","for":{"reference":"Patient/999"}}`)))
	location := rec.Header().Get("Location")
	rec = httptest.NewRecorder()
	f.handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, location, nil))
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"status":"draft"`) {
		t.Errorf("%s: got %d %s, want 200 and the draft", location, rec.Code, rec.Body)
	}
}

func TestFHIRServerRecordsEverySpelling(t *testing.T) {
	f := newFHIRServer("")
	req := httptest.NewRequest(http.MethodGet, "/fhir/Task?status=ready", nil)
	req.Header = http.Header{"X-Launch-Patient": {"123"}, "X_launch_patient": {"999"}, "X-Launch.user": {"a", "b"}, "X-Request-Id": {"1"}}
	f.handler().ServeHTTP(httptest.NewRecorder(), req)
	seen := f.seen()
	if len(seen) != 1 || seen[0].uri != "/fhir/Task?status=ready" ||
		strings.Join(seen[0].launch, "|") != "X-Launch-Patient: 123|X-Launch.user: a|X-Launch.user: b|X_launch_patient: 999" {
		t.Errorf("saw %+v, want the request with its headers", seen)
	}
	for range 1000 {
		f.record(req)
	}
	if n := len(f.seen()); n > 100 {
		t.Errorf("keeps %d requests, want at most 100", n)
	}
	if f.forget(); len(f.seen()) != 0 {
		t.Error("got requests after forget, want none")
	}
}
